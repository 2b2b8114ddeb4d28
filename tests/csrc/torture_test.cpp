// The torture without Python: threads of one process, then processes of which one is killed. An
// argument says for how many seconds; `make sanitize` gives it more of them.
#include "torture.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "expect.hpp"
#include "oracle_file.hpp"
#include "torture_audit.hpp"

namespace predawn::torture {
namespace {

constexpr Plan kPlan{.keys = 24,
                     .shared = 8,
                     .endings = 1 << 14,
                     .workers = 4,
                     .reads_per_put = 1,
                     .read_keys = 32,
                     .put_keys = 8,
                     .removes_in = 8,
                     .floors_in = 2000,
                     .expires = 1};
constexpr CacheOptions kOptions{.huge_pages = false};

struct Chamber {
  explicit Chamber(std::uint64_t capacity)
      : name("/dev/shm/predawn-torture-" + std::to_string(::getpid())),
        store(name + ".store"),
        file(OracleFile::create(name + ".oracle", kPlan)),
        cache(Cache::create(store,
                            {.capacity = capacity, .dim = kDim, .parts = 1, .dtype = Dtype::kFp32},
                            Seed{9}, 0, kOptions)) {
    choose_keys(file.oracle(), cache->table(), 1, false, 3);
  }
  ~Chamber() {
    ::unlink(store.c_str());
    ::unlink((name + ".oracle").c_str());
  }
  Chamber(const Chamber&) = delete;
  Chamber& operator=(const Chamber&) = delete;

  [[nodiscard]] Oracle& oracle() const { return file.oracle(); }

  void expect_nothing_wrong() const {
    for (const auto& count : oracle().wrongs) EXPECT(count.load() == 0);
    for (const std::string& sentence : cache->check()) {
      std::fprintf(stderr, "%s\n", sentence.c_str());
      EXPECT(sentence.empty());
    }
    std::uint64_t reads = 0;
    for (const WorkerRecord& worker : oracle().workers) reads += worker.reads.load();
    EXPECT(reads > 100);
  }

  std::string name;
  std::string store;
  OracleFile file;
  std::unique_ptr<Cache> cache;
};

void work(Chamber& chamber, std::uint32_t first, std::uint32_t count) {
  std::vector<std::thread> threads;
  for (std::uint32_t i = first; i < first + count; ++i) {
    threads.emplace_back([&, i] { Torturer(chamber.oracle(), *chamber.cache, i, i).run(); });
  }
  for (std::thread& thread : threads) thread.join();
}

void pause_ms(int ms) { ::usleep(static_cast<useconds_t>(ms) * 1000); }

void test_threads(std::uint64_t capacity, int ms) {
  Chamber chamber(capacity);
  std::thread clock([&] {
    pause_ms(ms);
    chamber.oracle().stop.store(1);
  });
  work(chamber, 0, kPlan.workers);
  clock.join();
  chamber.expect_nothing_wrong();
}

// Children of fork, on their parent's store.
void test_processes(int ms) {
  Chamber chamber(14);
  pid_t children[2];
  for (std::uint32_t i = 0; i < 2; ++i) {
    children[i] = ::fork();
    if (children[i] != 0) continue;
    work(chamber, 2 * i, 2);
    ::_exit(chamber.oracle().wrongs[0].load() == 0 ? 0 : 1);
  }
  pause_ms(ms / 2);
  ::kill(children[0], SIGKILL);
  int status = 0;
  ::waitpid(children[0], &status, 0);
  pause_ms(ms / 2);
  chamber.oracle().stop.store(1);
  ::waitpid(children[1], &status, 0);
  EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  Audit audit(chamber.oracle(), chamber.store, 4);
  EXPECT(audit.stuck_sets() == 0);
  (void)audit.found();
  chamber.expect_nothing_wrong();
}

void test_planted_damage_is_seen() {
  Chamber chamber(280);
  Audit audit(chamber.oracle(), chamber.store, 4);
  Torturer torturer(chamber.oracle(), *chamber.cache, 0, 1);
  std::thread clock([&] {
    pause_ms(20);
    chamber.oracle().stop.store(1);
  });
  torturer.run();
  clock.join();
  audit.plant_torn();
  (void)audit.found();
  audit.plant_stuck();
  EXPECT(audit.stuck_sets() == 1 && !chamber.cache->check().empty());
}

}  // namespace
}  // namespace predawn::torture

int main(int count, char** arguments) {
  using namespace predawn::torture;
  const int ms = count > 1 ? std::atoi(arguments[1]) * 1000 : 1'200;
  test_processes(ms / 3);  // first: a child of fork must not inherit threads
  test_threads(14, ms / 3);
  test_threads(14 * 3, ms / 3);
  test_planted_damage_is_seen();
  return predawn::testing::failures == 0 ? 0 : 1;
}
