// Two processes, here two mappings, see one oracle; a taken name and a missing file are errors.
#include "oracle_file.hpp"

#include "expect.hpp"

namespace predawn::torture {
namespace {

template <class Action>
int error_of(Action&& action) {
  try {
    action();
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

void test_an_oracle_is_shared() {
  const std::string path = "/dev/shm/predawn-oracle-" + std::to_string(::getpid());
  const OracleFile one = OracleFile::create(path, {.keys = 7});
  const OracleFile two = OracleFile::open(path);
  EXPECT(two.oracle().plan.keys == 7 && two.oracle().keys[6].clock.load() == 0);
  one.oracle().keys[6].clock.store(5);
  EXPECT(two.oracle().keys[6].clock.load() == 5);
  EXPECT(error_of([&] { (void)OracleFile::create(path, {}); }) == EEXIST);
  ::unlink(path.c_str());
  EXPECT(error_of([&] { (void)OracleFile::open(path); }) == ENOENT);
}

}  // namespace
}  // namespace predawn::torture

int main() {
  predawn::torture::test_an_oracle_is_shared();
  return predawn::testing::failures == 0 ? 0 : 1;
}
