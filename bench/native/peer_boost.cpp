// boost::concurrent_flat_map, read by bulk visit: the strongest C++ peer. Bulk visit does not say
// which key it is at, so rows come out in the order of the visits.
#include <boost/version.hpp>
#if BOOST_VERSION < 108400
#  error "needs Boost 1.84 or newer"
#endif
#include <boost/unordered/concurrent_flat_map.hpp>

#include "reader.hpp"

namespace predawn::bench {
namespace {

class Map {
  using Pair = std::pair<const std::uint64_t, Row>;
  using Table = boost::concurrent_flat_map<std::uint64_t, Row, boost::hash<std::uint64_t>,
                                           std::equal_to<std::uint64_t>, HugeAllocator<Pair>>;

 public:
  Map(std::size_t entries, const std::uint64_t* keys, const float* rows) : table_(entries) {
    for (std::size_t i = 0; i < entries; ++i) table_.emplace(keys[i], row_at(rows, i));
  }

  std::uint64_t read(const std::uint64_t* keys, std::size_t n, float* out) const {
    return table_.cvisit(keys, keys + n, [&out](const Pair& found) {
      std::memcpy(out, found.second.data(), sizeof(Row));
      out += kFloats;
    });
  }

 private:
  Table table_;
};

}  // namespace
}  // namespace predawn::bench

PREDAWN_READER(predawn::bench::Map)
