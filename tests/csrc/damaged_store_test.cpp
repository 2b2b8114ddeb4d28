// A damaged store file is refused with a clear error, or is usable: never a crash. Damage at
// random, the same in every run; an argument says how many inputs. The fuzzer goes on from here
// (fuzz_attach.cpp).
#include "damaged_store.hpp"

#include <random>

#include "expect.hpp"

namespace predawn {
namespace {

using testing::Bytes;
using testing::DamagedStore;
using testing::Outcome;

Bytes random_input(std::mt19937_64& random) {
  constexpr std::uint8_t kFlags[] = {
      0,
      DamagedStore::kClean,
      DamagedStore::kSealed,
      DamagedStore::kSealed | DamagedStore::kClean,
      DamagedStore::kBelievable,
      DamagedStore::kBelievable | DamagedStore::kClean,
      DamagedStore::kTruncated | DamagedStore::kClean,
      DamagedStore::kRaw,
  };
  constexpr std::uint8_t kRegions[] = {0, 1, 2, 3, 4, 4, 4, 6, 6, 7};
  constexpr std::uint8_t kTelling[] = {0, 1, 0x7f, 0x80, 0xff};
  Bytes input{kFlags[random() % std::size(kFlags)]};
  for (std::uint64_t edits = 1 + random() % 8; edits != 0; --edits) {
    input.push_back(kRegions[random() % std::size(kRegions)]);
    input.push_back(static_cast<std::uint8_t>(random() % 64));
    input.push_back(static_cast<std::uint8_t>(random()));
    const std::uint64_t length = 1 + random() % 9;
    input.push_back(static_cast<std::uint8_t>(length - 1));
    const bool is_telling = random() % 2 == 0;
    for (std::uint64_t i = 0; i < length; ++i) {
      const std::uint64_t any = random();
      input.push_back(is_telling ? kTelling[any % std::size(kTelling)]
                                 : static_cast<std::uint8_t>(any));
    }
  }
  return input;
}

void test_random_damage(int inputs) {
  std::mt19937_64 random(20);
  DamagedStore store;
  std::array<int, 3> outcomes{};
  for (int i = 0; i < inputs; ++i) {
    ++outcomes[static_cast<std::size_t>(store.try_out(random_input(random)))];
  }
  for (const int count : outcomes) EXPECT(count > inputs / 50);
}

void test_files_that_are_no_stores() {
  DamagedStore store;
  EXPECT(store.try_out(Bytes{DamagedStore::kRaw}) == Outcome::kRefused);
  Bytes text{DamagedStore::kRaw};
  text.resize(50'000, 'x');
  EXPECT(store.try_out(text) == Outcome::kRefused);
  EXPECT(store.try_out(Bytes{DamagedStore::kTruncated, 0x10, 0}) == Outcome::kRefused);
  EXPECT(store.try_out(Bytes{DamagedStore::kClean}) == Outcome::kTrusted);
}

}  // namespace
}  // namespace predawn

int main(int count, char** arguments) {
  predawn::test_files_that_are_no_stores();
  predawn::test_random_damage(count > 1 ? std::atoi(arguments[1]) : 1'000);
  return predawn::testing::failures == 0 ? 0 : 1;
}
