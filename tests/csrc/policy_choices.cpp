// What `choose` answers, for whoever asks in words: a set of tags per line in, a choice per line
// out.
//
// In: 14 tags, hand, speculative, quota, rule, now_stamp, any_reader, mask of the ways whose slots
//   are expired, 14 orders; numbers apart by spaces. Out: way, hand, cause, unvisit, survive,
//   renew, mask of the ways whose slots were verified.
#include <cstdint>
#include <iostream>

#include "policy.hpp"

namespace {

predawn::PolicyView read_view() {
  predawn::PolicyView view;
  std::uint32_t rule = 0;
  for (predawn::Tag& tag : view.tags) {
    std::uint32_t word = 0;
    std::cin >> word;
    tag = predawn::Tag(word);
  }
  std::cin >> view.hand >> view.speculative >> view.quota >> rule >> view.now_stamp >>
      view.any_reader;
  view.rule = static_cast<predawn::Rule>(rule);
  return view;
}

}  // namespace

int main() {
  for (predawn::PolicyView view = read_view(); std::cin; view = read_view()) {
    std::uint32_t expired = 0;
    std::uint32_t verified = 0;
    std::array<std::uint32_t, predawn::kWays> orders{};
    std::cin >> expired;
    for (std::uint32_t& order : orders) std::cin >> order;
    const auto is_expired = [&](unsigned way) {
      verified |= 1u << way;
      return (expired >> way & 1u) != 0;
    };
    const predawn::Choice choice =
        predawn::choose(view, is_expired, [&](unsigned way) { return orders[way]; });
    std::cout << choice.way << ' ' << choice.hand << ' ' << static_cast<int>(choice.cause) << ' '
              << choice.unvisit << ' ' << choice.survive << ' ' << choice.renew << ' ' << verified
              << std::endl;
  }
}
