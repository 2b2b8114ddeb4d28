// The store itself, read from C++ as its peers are: ages on, TTL on, recency on.
#include <memory>

#include "cache.hpp"
#include "reader.hpp"

namespace predawn::bench {
namespace {

constexpr std::int64_t kNowMs = 1'000'000;
constexpr std::int64_t kTtlMs = 60'000;
constexpr std::size_t kBatchMax = 16'384;

class Store {
 public:
  explicit Store(const char* path) : cache_(Cache::attach(path, CacheOptions{})) {}

  std::uint64_t read(const Key* keys, std::size_t n, float* out) {
    GetRequest request;
    request.keys = {keys, n};
    request.now_ms = kNowMs;
    request.max_age_ms = kTtlMs;
    request.out = out;
    request.ages = ages_.data();
    return n <= ages_.size() ? cache_->get_many(request) : 0;
  }

 private:
  std::unique_ptr<Cache> cache_;
  std::array<std::int64_t, kBatchMax> ages_{};
};

}  // namespace
}  // namespace predawn::bench

using predawn::bench::Store;

// Null when `path` is no store that can be attached.
extern "C" void* store_attach(const char* path) {
  try {
    return new Store(path);
  } catch (const std::exception&) {
    return nullptr;
  }
}
extern "C" std::uint64_t reader_read(void* store, const predawn::Key* keys, std::uint64_t n,
                                     float* out) {
  return static_cast<Store*>(store)->read(keys, n, out);
}
extern "C" void reader_destroy(void* store) { delete static_cast<Store*>(store); }
