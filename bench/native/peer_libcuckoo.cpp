// libcuckoo::cuckoohash_map, read by find_fn, a key at a time: it has no batches.
#include <libcuckoo/cuckoohash_map.hh>

#include "reader.hpp"

namespace predawn::bench {
namespace {

class Map {
  using Pair = std::pair<const std::uint64_t, Row>;
  using Table = libcuckoo::cuckoohash_map<std::uint64_t, Row, std::hash<std::uint64_t>,
                                          std::equal_to<std::uint64_t>, HugeAllocator<Pair>>;

 public:
  Map(std::size_t entries, const std::uint64_t* keys, const float* rows) : table_(entries) {
    for (std::size_t i = 0; i < entries; ++i) table_.insert(keys[i], row_at(rows, i));
  }

  std::uint64_t read(const std::uint64_t* keys, std::size_t n, float* out) const {
    std::uint64_t found = 0;
    for (std::size_t i = 0; i < n; ++i) {
      found += table_.find_fn(
          keys[i], [&](const Row& row) { std::memcpy(out + i * kFloats, row.data(), sizeof row); });
    }
    return found;
  }

 private:
  Table table_;
};

}  // namespace
}  // namespace predawn::bench

PREDAWN_READER(predawn::bench::Map)
