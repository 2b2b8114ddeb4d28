// The least of the host's memory and of each control group's room counts; the unreadable does not.
#include "available_memory.hpp"

#include <filesystem>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

namespace fs = std::filesystem;
using testing::TempFolder;

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

struct Host {
  TempFolder folder;
  fs::path proc = fs::path(folder.path()) / "proc";
  fs::path groups = fs::path(folder.path()) / "groups";

  explicit Host(const std::string& membership) {
    write(proc / "meminfo", "MemTotal: 9000 kB\nMemAvailable:  1000 kB\n");
    write(proc / "self/cgroup", membership);
  }
  [[nodiscard]] std::optional<std::uint64_t> available() const {
    return available_memory(proc.string(), groups.string());
  }
};

void test_host_alone() {
  EXPECT(Host("").available() == 1'024'000);
  EXPECT(!available_memory("/nowhere", "/nowhere").has_value());
}

void test_group_of_version_2_and_its_parents() {
  Host host("0::/a/b\n");
  write(host.groups / "a/b/memory.max", "max\n");
  write(host.groups / "a/b/memory.current", "5000\n");
  EXPECT(host.available() == 1'024'000);
  write(host.groups / "a/memory.max", "9000\n");
  write(host.groups / "a/memory.current", "8000\n");
  write(host.groups / "a/memory.stat", "anon 1\ninactive_file 500\nactive_file 100\n");
  EXPECT(host.available() == 1'600);
  write(host.groups / "a/memory.current", "20000\n");
  EXPECT(host.available() == 0);
}

void test_group_of_version_1_seen_from_a_container() {
  Host host("7:blkio:/\n4:cpu,memory:/host/path\n0::/\n");
  write(host.groups / "memory/memory.limit_in_bytes", "4000\n");
  write(host.groups / "memory/memory.usage_in_bytes", "3000\n");
  EXPECT(host.available() == 1'000);
  write(host.groups / "memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT(host.available() == 1'024'000);
}

void test_overcommit() {
  const Host host("");
  EXPECT(may_overcommit(host.proc.string()));
  write(host.proc / "sys/vm/overcommit_memory", "2\n");
  EXPECT(!may_overcommit(host.proc.string()));
  write(host.proc / "sys/vm/overcommit_memory", "0\n");
  EXPECT(may_overcommit(host.proc.string()));
}

void test_this_host() { EXPECT(available_memory().value_or(0) > 0); }

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_host_alone();
  predawn::test_group_of_version_2_and_its_parents();
  predawn::test_group_of_version_1_seen_from_a_container();
  predawn::test_overcommit();
  predawn::test_this_host();
  return predawn::testing::failures == 0 ? 0 : 1;
}
