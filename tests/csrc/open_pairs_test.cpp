// Open pairs: what was opened is found until it is closed, in order of time, by any user.

#include "open_pairs.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <utility>

#include "expect.hpp"

namespace predawn {
namespace {

using Key = std::pair<std::uint64_t, std::uint64_t>;

void stays_the_map() {
  constexpr std::size_t kCapacity = 300;
  OpenPairs pairs(kCapacity, 11);
  std::map<Key, std::int64_t> issued;
  std::mt19937 random(5);
  for (std::int64_t now_ms = 0; now_ms < 20'000; ++now_ms) {
    const Key key{random() % 30, random() % 40};
    const LedgerUser user{key.first, static_cast<std::uint8_t>(key.first % 2)};
    const std::uint32_t at = pairs.find(pairs.find(user), key.second);
    EXPECT((at != OpenPairs::kNone) == issued.contains(key));
    if (at == OpenPairs::kNone && !pairs.is_full()) {
      pairs.open(user, key.second, 1, now_ms);
      issued[key] = now_ms;
    } else if (at != OpenPairs::kNone && !pairs.pair(at).has_landed && random() % 2 == 0) {
      EXPECT(pairs.pair(at).issued_ms == issued[key]);
      pairs.land(at, now_ms);
    } else if (at != OpenPairs::kNone) {
      pairs.close(at);
      issued.erase(key);
    }
    EXPECT(pairs.size() == issued.size());
    if (now_ms % 100 == 0) EXPECT(pairs.check().empty());
  }
}

void a_user_is_there_as_long_as_he_has_a_pair() {
  OpenPairs pairs(4, 11);
  const LedgerUser integer{7, 0};
  const LedgerUser text{7, 1};
  pairs.open(integer, 1, 0, 0);
  pairs.open(text, 1, 0, 0);
  EXPECT(pairs.users() == 2 && pairs.find(integer) != pairs.find(text));
  pairs.close(pairs.find(pairs.find(integer), 1));
  EXPECT(pairs.users() == 1 && pairs.find(integer) == OpenPairs::kNone);
  EXPECT(pairs.find(pairs.find(text), 1) != OpenPairs::kNone);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::stays_the_map();
  predawn::a_user_is_there_as_long_as_he_has_a_pair();
  return predawn::testing::failures != 0;
}
