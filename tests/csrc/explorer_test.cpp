// The protocol of a set in every order worth trying: see explorer.hpp and set_model.hpp.
//
// Without arguments the quick set; `--seconds N` repeats it with more preemptions and seeds for
// about N seconds each; `--only NAME`; `--replay NAME TRACE` runs one schedule again.
#include "explorer.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "set_model.hpp"

namespace predawn {
namespace {

constexpr std::uint32_t kDemanded = Tag::kDemanded;
constexpr std::uint32_t kHot = Tag::kDemanded | Tag::kVisited;

struct Case {
  const char* name;
  ModelOptions options;
  Limits limits;
  void (*build)(Model&);
  std::uint64_t slowness = 1;  // so many times less schedules
};

void fill_set(Model& model, std::uint32_t hints) {
  for (unsigned key = 0; key < kWays; ++key) model.prefill(key, hints);
}

const Case kCases[] = {
    {"overwrite beside overwrite",
     {},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); });
       m.add([&m] { m.put(1, 3); });
       m.add([&m] { m.get(3, 2); });
     }},
    {"overwrite twice beside reader",
     {},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3), m.put(0, 3), m.put(0, 3); });
       m.add([&m] { m.put(1, 5); });
       m.add([&m] { m.get(3, 2); });
     }},
    {"insert the same key",
     {},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kHot);
       m.add([&m] { m.put(0, 20), m.put(0, 20); });
       m.add([&m] { m.put(1, 20); });
       m.add([&m] { m.get(20, 2); });
     }},
    {"insert keys of one fingerprint",
     {.fingerprint = 7},
     {2, 0, 0},
     [](Model& m) {
       m.prefill(1, kDemanded), m.prefill(2, kDemanded);
       m.add([&m] { m.put(0, 20); });
       m.add([&m] { m.put(1, 21), m.put(1, 20); });
       m.add([&m] { m.get(20, 1), m.get(1, 1); });
     }},
    {"empty set",
     {.writers = 3},
     {2, 0, 0},
     [](Model& m) {
       m.add([&m] { m.put(0, 20); });
       m.add([&m] { m.put(1, 20); });
       m.add([&m] { m.put(2, 21); });
     }},
    {"removal beside put",
     {},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); });
       m.add([&m] { m.remove(3); });
       m.add([&m] { m.get(3, 2); });
     }},
    {"removals beside insertion",
     {.writers = 3},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3), m.put(0, 20); });
       m.add([&m] { m.remove(3); });
       m.add([&m] { m.remove(3), m.remove(4); });
     }},
    {"walk over ways beside puts",
     {},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3), m.put(0, 20), m.put(0, 3); });
       m.add([&m] { m.put(1, 3); });
       m.add([&m] { m.scan(0, 1), m.scan(3, 1); });
     }},
    {"writer killed",
     {},
     {1, 1, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); }, true);
       m.add([&m] { m.put(1, 3), m.put(1, 20); });
       m.add([&m] { m.reap(0); });
     }},
    {"writer killed beside reader",
     {},
     {2, 1, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); }, true);
       m.add([&m] { m.put(1, 3); });
       m.add([&m] { m.get(3, 2); });
     }},
    {"two killed, two reapers",
     {.writers = 3},
     {0, 2, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); }, true);
       m.add([&m] { m.put(1, 3); }, true);
       m.add([&m] { m.reap(0), m.reap(1); });
       m.add([&m] { m.reap(0); });
     }},
    {"reaper killed",
     {},
     {0, 2, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); }, true);
       m.add([&m] { m.put(1, 20); });
       m.add([&m] { m.reap(0); }, true);
       m.add([&m] { m.reap(0); });
     }},
    {"puts that give up beside puts",
     {.budget = 3},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); });
       m.add([&m] { m.put(1, 4), m.remove(5); });
       m.add([&m] { m.put(2, 20), m.get(20, 1); });
     }},
    {"journal line taken over",
     {.writers = 3},
     {2, 2, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); }, true);
       m.add([&m] { m.reap(0); });
       m.add([&m] { m.reap(0); });
       m.add([&m] { m.take_over(0, 3); }, true);
     }},
    {"writer stopped",
     {},
     {1, 0, 1},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); }, true);
       m.add([&m] { m.put(1, 3), m.put(1, 20); });
       m.add([&m] { m.get(3, 2); });
     }},
    {"both spares held by stopped writers",
     {.writers = 4},
     {0, 0, 2},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); }, true);
       m.add([&m] { m.put(1, 4); }, true);
       m.add([&m] { m.put(2, 20); }, true);
       m.add([&m] { m.put(3, 21); });
     }},
    {"stopped, killed and reaped",
     {.writers = 3},
     {0, 1, 1},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3); }, true);
       m.add([&m] { m.put(1, 3); }, true);
       m.add([&m] { m.put(2, 20); });
       m.add([&m] { m.reap(0), m.reap(1); });
     }},
    {"hand changes hints beside helpers",
     {},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kHot);
       m.add([&m] { m.put(0, 20), m.put(0, 21); });
       m.add([&m] { m.put(1, 0); });
       m.add([&m] { m.get(0, 1), m.get(1, 1); });
     }},
    {"hand of SIEVE beside helpers",
     {.rule = Rule::kSieve},
     {2, 0, 0},
     [](Model& m) {
       fill_set(m, kHot);
       m.add([&m] { m.put(0, 20), m.put(0, 21); });
       m.add([&m] { m.put(1, 22); });
       m.add([&m] { m.get(0, 1), m.get(1, 1); });
     }},
    {"speculative entries in their quota",
     {.quota = 2},
     {2, 0, 0},
     [](Model& m) {
       for (unsigned key = 0; key < 10; ++key) m.prefill(key, kDemanded);
       for (unsigned key = 10; key < kWays; ++key) m.prefill(key, 0);
       m.add([&m] { m.put(0, 20, false); });
       m.add([&m] { m.put(1, 21, false), m.put(1, 20); });
       m.add([&m] { m.get(10, 1), m.get(20, 1); });
     }},
    {"versions of slots wrap",
     {},
     {2, 0, 0},
     [](Model& m) {
       m.start_seq(2 * 255);
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3), m.put(0, 3); });
       m.add([&m] { m.put(1, 3); });
       m.add([&m] { m.get(3, 2); });
     }},
    {"a slot left odd",
     {},
     {2, 0, 0},
     [](Model& m) {
       m.start_seq(2 * 127 + 1);
       m.add([&m] { m.put(0, 3), m.put(0, 3); });
       m.add([&m] { m.put(1, 3); });
       m.add([&m] { m.get(3, 2); });
     }},
    {"all versions pass while a helper sleeps",
     {.is_strict = false},
     {1, 0, 0},
     [](Model& m) {
       fill_set(m, kDemanded);
       m.add([&m] { m.put(0, 3), m.put(0, 3); });
       m.add([&m] { m.put_quietly(1, 3, 3 * 256 - 1); });
       m.add([&m] { m.get(3, 2); });
     },
     50},
};

struct Settings {
  double seconds = 0;  // 0: quick
  std::string only;
  bool is_replay = false;
  std::string trace;  // may be empty: the default course
};

double now_s() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

struct Result {
  std::uint64_t schedules = 0;
  bool holds = true;
};

void report(const Case& at, const Explorer& explorer, bool holds, double seconds) {
  std::printf("%-42s %10llu schedules %5.1f s  ", at.name,
              static_cast<unsigned long long>(explorer.schedules()), seconds);
  if (explorer.complete_preemptions() >= 0) {
    std::printf("all up to %d preemptions", explorer.complete_preemptions());
  }
  std::printf("%s\n", holds ? "" : "  FAILED");
  if (holds) return;
  std::printf("  property: %s\n  trace: --replay \"%s\" %s\n", explorer.failure().property, at.name,
              explorer.failure().trace.text().c_str());
}

// Quick: the preemptions that the case names, and some seeds. Long: ever more of both.
bool search(const Case& at, const Settings& settings, Explorer& explorer) {
  constexpr std::uint64_t kQuickSchedules = 450'000, kQuickWalks = 5'000;
  const double end = now_s() + settings.seconds;
  Limits narrow = at.limits;
  Limits wide = at.limits;
  wide.preemptions = 12;
  std::uint64_t most = kQuickSchedules / at.slowness, walks = kQuickWalks / at.slowness, seed = 1;
  do {
    if (!explorer.explore(narrow, most) || !explorer.walk(wide, seed, walks)) return false;
    if (explorer.is_complete()) ++narrow.preemptions;
    seed += walks;
    walks *= 4;
    most *= 4;
  } while (now_s() < end);
  return true;
}

Result run_case(const Case& at, const Settings& settings) {
  const double start = now_s();
  Model model(at.options);
  at.build(model);
  Explorer& explorer = model.start(settings.seconds > 0 ? 24 : 18);
  const bool holds = settings.is_replay ? explorer.replay(Trace::parse(settings.trace))
                                        : search(at, settings, explorer);
  report(at, explorer, holds, now_s() - start);
  return {explorer.schedules(), holds};
}

int run_cases(const Settings& settings) {
  Result total;
  for (const Case& at : kCases) {
    if (!settings.only.empty() && settings.only != at.name) continue;
    const Result result = run_case(at, settings);
    total.schedules += result.schedules;
    total.holds &= result.holds;
  }
  std::printf("%llu schedules\n", static_cast<unsigned long long>(total.schedules));
  return total.holds && total.schedules != 0 ? 0 : 1;
}

}  // namespace
}  // namespace predawn

int main(int count, char** words) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  predawn::Settings settings;
  for (int i = 1; i < count; ++i) {
    const std::string_view word = words[i];
    if (word == "--seconds" && i + 1 < count) settings.seconds = std::atof(words[++i]);
    if (word == "--only" && i + 1 < count) settings.only = words[++i];
    if (word == "--replay" && i + 2 < count) {
      settings.is_replay = true;
      settings.only = words[++i];
      settings.trace = words[++i];
    }
  }
  return predawn::run_cases(settings);
}
