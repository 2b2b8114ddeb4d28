// A child of fork sees another number than its parent, a grandchild yet another.
#include "fork_epoch.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "expect.hpp"

namespace predawn {
namespace {

// What `work` says in a child: its exit status.
template <class Work>
int in_child(Work work) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(work());
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int epoch_here() { return static_cast<int>(fork_epoch()); }

void test_each_generation_has_its_own_number() {
  EXPECT(fork_epoch() == 0);
  EXPECT(in_child(epoch_here) == 1);
  EXPECT(in_child([] { return in_child(epoch_here); }) == 2);
  EXPECT(fork_epoch() == 0);
}

void test_a_fork_from_another_thread_counts_too() {
  int seen = -1;
  std::thread([&seen] { seen = in_child(epoch_here); }).join();
  EXPECT(seen == 1);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_each_generation_has_its_own_number();
  predawn::test_a_fork_from_another_thread_counts_too();
  return predawn::testing::failures == 0 ? 0 : 1;
}
