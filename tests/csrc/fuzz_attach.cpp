// libFuzzer's way into a damaged store: clang++ -fsanitize=fuzzer,address; see `make sanitize`.
#include "damaged_store.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static predawn::testing::DamagedStore store;
  store.try_out({data, size});
  return 0;
}
