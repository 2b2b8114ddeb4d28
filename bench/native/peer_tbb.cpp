// tbb::concurrent_hash_map, read by const_accessor, a key at a time: it has no batches.
#include <tbb/concurrent_hash_map.h>

#include "reader.hpp"

namespace predawn::bench {
namespace {

class Map {
  using Pair = std::pair<const std::uint64_t, Row>;
  using Table = tbb::concurrent_hash_map<std::uint64_t, Row, tbb::tbb_hash_compare<std::uint64_t>,
                                         HugeAllocator<Pair>>;

 public:
  Map(std::size_t entries, const std::uint64_t* keys, const float* rows) : table_(entries) {
    for (std::size_t i = 0; i < entries; ++i) table_.emplace(keys[i], row_at(rows, i));
  }

  std::uint64_t read(const std::uint64_t* keys, std::size_t n, float* out) const {
    std::uint64_t found = 0;
    for (std::size_t i = 0; i < n; ++i) {
      Table::const_accessor entry;
      if (!table_.find(entry, keys[i])) continue;
      std::memcpy(out + i * kFloats, entry->second.data(), sizeof(Row));
      ++found;
    }
    return found;
  }

 private:
  Table table_;
};

}  // namespace
}  // namespace predawn::bench

PREDAWN_READER(predawn::bench::Map)
