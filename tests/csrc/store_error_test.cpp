// Errors name the path, the field, what was found and expected, and what to do.
#include "store_error.hpp"

#include <cerrno>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::contains;
using testing::thrown;

void test_refusal_is_one_sentence() {
  const std::string text =
      thrown<StoreError>([] { refuse("/a/b", {"dim", "3", "4", "remove the file"}); });
  EXPECT(text == "store '/a/b': dim is 3, expected 4: remove the file");
}

void test_file_error_has_errno_and_path() {
  try {
    refuse_file(ENOSPC, "/a/b", "creating");
  } catch (const FileError& error) {
    EXPECT(error.error() == ENOSPC);
    EXPECT(error.path() == "/a/b");
    EXPECT(contains(error.what(), "creating '/a/b'"));
    return;
  }
  EXPECT(false);
}

void test_out_of_memory_has_bytes() {
  const OutOfMemory known("/a", 10, 5);
  EXPECT(known.needed() == 10 && known.available() == 5);
  EXPECT(contains(known.what(), "10 bytes of memory needed, 5 available"));
  const OutOfMemory unknown("/a", 10, std::nullopt);
  EXPECT(!unknown.available().has_value());
  EXPECT(contains(unknown.what(), "refuses to map"));
  EXPECT(!thrown<std::bad_alloc>([] { throw OutOfMemory("/a", 1, 0); }).empty());
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_refusal_is_one_sentence();
  predawn::test_file_error_has_errno_and_path();
  predawn::test_out_of_memory_has_bytes();
  return predawn::testing::failures == 0 ? 0 : 1;
}
