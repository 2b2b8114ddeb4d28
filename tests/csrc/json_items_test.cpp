// Candidates: duplicates found by value, ids written back as they came, keys that never meet.
#include "json_items.hpp"

#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

// Candidates of the body's comma-separated tokens, which have no commas in them.
Candidates of(const std::string& body) {
  Candidates made;
  made.start(1);
  std::size_t begin = 0;
  while (begin < body.size()) {
    const std::size_t end = std::min(body.find(',', begin), body.size());
    Scanner scan;
    scan.start(body.data() + begin, end - begin);
    Id id;
    EXPECT(read_id(&scan, &id));
    made.add();
    made.set(0, static_cast<float>(begin));
    made.identify(id.number, {static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)});
    begin = end + 1;
  }
  return made;
}

std::pair<std::size_t, std::size_t> twins_of(const std::string& body, bool strings) {
  const Twins twins = of(body).twins(body.data(), strings);
  return {twins.first, twins.second};
}

void test_duplicates_are_found_whatever_their_spelling() {
  EXPECT(twins_of("1,2,3", false) == std::pair<std::size_t, std::size_t>(0, 0));
  EXPECT(twins_of("1,2,1", false) == std::pair<std::size_t, std::size_t>(0, 2));
  EXPECT(twins_of("0,18446744073709551615,0", false) == std::pair<std::size_t, std::size_t>(0, 2));
  EXPECT(twins_of(R"("a","b","ab")", true) == std::pair<std::size_t, std::size_t>(0, 0));
  EXPECT(twins_of(R"("a","b","\u0062")", true) == std::pair<std::size_t, std::size_t>(1, 2));
}

void test_duplicates_are_found_among_many_that_look_alike() {
  for (const int shift : {0, 8, 32, 50}) {
    Candidates many;
    many.start(0);
    for (std::uint64_t i = 0; i < 10'000; ++i) {
      many.add();
      many.identify(i << shift, {});
    }
    EXPECT(many.twins("", false).second == 0);
    many.add();
    many.identify(std::uint64_t{77} << shift, {});
    const Twins twins = many.twins("", false);
    EXPECT(twins.first == 77 && twins.second == 10'000);
  }
}

void test_equal_hashes_of_different_strings_are_no_duplicates() {
  const std::string body = R"("a","b")";
  Candidates two;
  two.start(0);
  for (const std::uint32_t begin : {0U, 4U}) {
    two.add();
    two.identify(5, {begin, begin + 3});
  }
  EXPECT(two.twins(body.data(), true).second == 0);
}

void test_features_of_a_candidate_start_at_zero() {
  Candidates made;
  made.start(2);
  made.add();
  made.set(1, 3.0F);
  made.add();
  made.set(0, 4.0F);
  const std::vector<float> features(made.features(), made.features() + 4);
  EXPECT(features == std::vector<float>({0.0F, 3.0F, 4.0F, 0.0F}));
}

std::string written(const std::string& body, std::vector<std::int64_t> order,
                    std::vector<float> scores) {
  std::string out;
  const bool good = of(body).write(body.data(), order.data(), order.size(), scores.data(), &out);
  return good ? out : "refused";
}

void test_ids_go_back_as_they_came() {
  EXPECT(written(R"("\u0061","b")", {1, 0}, {0.5F, 1.0F}) ==
         R"({"id":"b","score":1},{"id":"\u0061","score":0.5})");
  EXPECT(written("7,8", {}, {1.0F, 2.0F}).empty());
  EXPECT(written("7", {0}, {-0.0F}) == R"({"id":7,"score":-0.0})");
}

void test_what_is_no_reply_is_refused() {
  EXPECT(written("7,8", {2}, {1.0F, 2.0F}) == "refused");
  EXPECT(written("7,8", {-1}, {1.0F, 2.0F}) == "refused");
  EXPECT(written("7", {0}, {std::numeric_limits<float>::quiet_NaN()}) == "refused");
  EXPECT(written("7", {0}, {std::numeric_limits<float>::infinity()}) == "refused");
}

void test_the_longest_pair_fits_its_message() {
  const std::string user(kTextLimit, 'u');
  const std::string body = '"' + std::string(kTextLimit, 'i') + '"';
  std::uint64_t keys[2] = {};
  of(body).pair_keys(body.data(), true, nullptr, user.data(), user.size(), SipKey{}, keys);
  const std::string message =
      std::string("s\x00\x01", 3) + user + "s" + std::string(kTextLimit, 'i');
  const Hash128 expected = siphash128(SipKey{}, message.data(), message.size());
  EXPECT(keys[0] == expected.lo && keys[1] == expected.hi);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_duplicates_are_found_whatever_their_spelling();
  predawn::test_duplicates_are_found_among_many_that_look_alike();
  predawn::test_equal_hashes_of_different_strings_are_no_duplicates();
  predawn::test_features_of_a_candidate_start_at_zero();
  predawn::test_ids_go_back_as_they_came();
  predawn::test_what_is_no_reply_is_refused();
  predawn::test_the_longest_pair_fits_its_message();
  return predawn::testing::failures == 0 ? 0 : 1;
}
