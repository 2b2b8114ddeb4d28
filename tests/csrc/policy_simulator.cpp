// Hit ratios of the store's eviction policy and of others on synthetic traffic.
//
// Usage: policy_simulator [NAME=VALUE ...]; the names are those of `set_field` below, and
//   caches=NAME,...  predawn clock sieve set-lru set-sieve global-lru global-sieve
//   capacity=N       entries
//   quota=N          of the unsteered caches (clock, sieve)
//   every=N          report every N accesses; else once, for the second half of them
// Prints a line per cache and report: name, accesses so far, accesses and hits of the window, rule
//   and quota at its end. Exits with 2 and a sentence where it does not understand.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "simulated_caches.hpp"
#include "simulated_traffic.hpp"

namespace predawn::simulation {
namespace {

struct Options {
  TrafficShape shape;
  std::string caches = "predawn,global-lru,global-sieve";
  std::uint64_t capacity = 50'000;
  unsigned quota = 1;
  std::uint64_t every = 0;
};

[[noreturn]] void refuse(const std::string& what) {
  std::fprintf(stderr, "policy_simulator: %s\n", what.c_str());
  std::exit(2);
}

bool set_field(Options& options, const std::string& name, double value) {
  TrafficShape& shape = options.shape;
  const std::map<std::string_view, double*> reals = {
      {"alpha", &shape.alpha},
      {"drift", &shape.drift},
      {"scanned", &shape.scanned},
      {"repeated", &shape.repeated},
      {"phase", &shape.phase},
      {"other_alpha", &shape.other_alpha},
      {"other_drift", &shape.other_drift},
      {"fills", &shape.fills},
      {"precision", &shape.precision},
      {"lead_min", &shape.lead_min},
      {"lead_max", &shape.lead_max},
  };
  const std::map<std::string_view, std::uint64_t*> wholes = {
      {"accesses", &shape.accesses},
      {"seed", &shape.seed},
      {"capacity", &options.capacity},
      {"every", &options.every},
  };
  if (const auto real = reals.find(name); real != reals.end()) {
    *real->second = value;
  } else if (const auto whole = wholes.find(name); whole != wholes.end()) {
    *whole->second = static_cast<std::uint64_t>(value);
  } else if (name == "keys") {
    shape.keys = static_cast<std::uint32_t>(value);
  } else if (name == "quota") {
    options.quota = static_cast<unsigned>(value);
  } else {
    return false;
  }
  return true;
}

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) refuse(word + ": not of the form NAME=VALUE");
    const std::string name = word.substr(0, equals);
    const std::string text = word.substr(equals + 1);
    if (name == "caches") {
      options.caches = text;
      continue;
    }
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != '\0' || !(value > -1e15 && value < 1e15)) {
      refuse(name + ": not a number: " + text);
    }
    if (!set_field(options, name, value)) refuse(name + ": unknown name");
  }
  if (options.shape.keys == 0 || options.capacity == 0) refuse("keys, capacity: at least 1");
  return options;
}

std::unique_ptr<Cache> cache_of(const std::string& name, const Options& options,
                                std::uint64_t keys) {
  const std::uint64_t capacity = options.capacity;
  const std::uint64_t seed = options.shape.seed;  // also places keys
  const auto fixed = [&](Rule rule) {
    return std::make_unique<PolicyCache>(capacity, seed, SteeringDecision{rule, options.quota});
  };
  if (name == "predawn") return std::make_unique<PolicyCache>(capacity, seed, std::nullopt);
  if (name == "clock") return fixed(Rule::kClock);
  if (name == "sieve") return fixed(Rule::kSieve);
  if (name == "set-lru") return std::make_unique<SetLru>(capacity, seed);
  if (name == "set-sieve") return std::make_unique<SetSieve>(capacity, seed);
  if (name == "global-lru") return std::make_unique<GlobalLru>(capacity, keys);
  if (name == "global-sieve") return std::make_unique<GlobalSieve>(capacity, keys);
  refuse(name + ": unknown cache");
}

struct Window {
  std::uint64_t accesses = 0;
  std::uint64_t hits = 0;
};

void report(const std::string& name, std::uint64_t at, const Window& window, const Cache& cache) {
  const SteeringDecision follows = cache.follows();
  std::printf("%s %llu %llu %llu %s %u\n", name.c_str(), static_cast<unsigned long long>(at),
              static_cast<unsigned long long>(window.accesses),
              static_cast<unsigned long long>(window.hits),
              follows.rule == Rule::kClock ? "clock" : "sieve", follows.quota);
}

void run(const std::string& name, Cache& cache, const std::vector<Access>& accesses,
         const Options& options) {
  const std::uint64_t half = options.shape.accesses / 2;
  Window window;
  std::uint64_t at = 0;
  for (const Access& access : accesses) {
    if (access.speculative) {
      cache.fill(access.key, true);
      continue;
    }
    const bool hit = cache.read(access.key);
    if (!hit) cache.fill(access.key, false);
    ++window.accesses;
    window.hits += hit ? 1 : 0;
    ++at;
    const bool is_warm = options.every == 0 && at == half;
    const bool ends = options.every == 0 ? at == options.shape.accesses : at % options.every == 0;
    if (ends) report(name, at, window, cache);
    if (ends || is_warm) window = Window{};
  }
}

int simulate(const Options& options) {
  const std::vector<Access> accesses = traffic(options.shape);
  std::uint64_t keys = 0;
  for (const Access& access : accesses) keys = std::max<std::uint64_t>(keys, access.key + 1u);
  std::string names = options.caches + ",";
  for (std::size_t end = names.find(','); end != std::string::npos; end = names.find(',')) {
    const std::string name = names.substr(0, end);
    names.erase(0, end + 1);
    run(name, *cache_of(name, options, keys), accesses, options);
  }
  return 0;
}

}  // namespace
}  // namespace predawn::simulation

int main(int count, char** words) {
  return predawn::simulation::simulate(predawn::simulation::parse(count, words));
}
