// Ids, members and written strings.
#include "json_ids.hpp"

#include <string>
#include <string_view>

#include "expect.hpp"

namespace predawn {
namespace {

void test_an_integer_is_its_number_and_a_string_its_stable_hash() {
  const std::string body = R"( 42 )";
  Scanner scan;
  scan.start(body.data(), body.size());
  Id id;
  EXPECT(read_id(&scan, &id) && id.number == 42 && !id.is_string);
  EXPECT(id.token.begin == 1 && id.token.end == 3);

  const std::string text = R"("\u0061b")";
  scan.start(text.data(), text.size());
  EXPECT(read_id(&scan, &id) && id.is_string && id.number == stable_hash("ab", 2));
  TextReader reader;
  const Text said = text_of(text.data(), id.token, &reader);
  EXPECT(std::string_view(said.data, said.size) == "ab");
}

// Bits of the members seen, or -1.
int seen_in(const std::string& body, Place* place) {
  Scanner scan;
  scan.start(body.data(), body.size());
  std::uint32_t seen = 0;
  int which = 0;
  std::uint64_t number = 0;
  if (!scan.open_object()) return -1;
  int more = next_member(&scan, kItemMembers, place, &seen, &which, true);
  while (more > 0) {
    if (!scan.integer(&number)) return -1;
    more = next_member(&scan, kItemMembers, place, &seen, &which, false);
  }
  return more < 0 ? -1 : static_cast<int>(seen);
}

void test_members_are_known_and_come_once() {
  Place place;
  EXPECT(seen_in("{}", &place) == 0);
  EXPECT(seen_in(R"({"features":1})", &place) == 2);
  EXPECT(seen_in(R"({"features":1,"id":2})", &place) == 3);
  EXPECT(place.unknown == Unknown::kNothing);
  EXPECT(seen_in(R"({"id":1,"id":2})", &place) == -1);
  EXPECT(place.unknown == Unknown::kNothing);
  const std::string strange = R"({"idd":1})";  // its name is looked at afterwards
  EXPECT(seen_in(strange, &place) == -1);
  EXPECT(place.unknown == Unknown::kMember && place.known == &kItemMembers);
  EXPECT(std::string_view(place.name.data, place.name.size) == "idd");
}

void test_an_element_has_no_leaf_of_the_one_before() {
  Place place;
  place.at("items");
  place.element(3);
  place.within("id");
  place.element(4);
  EXPECT(place.member == std::string_view("items") && place.index == 4 && place.leaf == nullptr);
}

void test_written_strings_are_json() {
  std::string out;
  const std::string text("a\"\\\n\x1f\0\xc3\xa9", 8);
  write_string(text.data(), text.size(), &out);
  EXPECT(out == "\"a\\\"\\\\\\u000a\\u001f\\u0000\xc3\xa9\"");
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_an_integer_is_its_number_and_a_string_its_stable_hash();
  predawn::test_members_are_known_and_come_once();
  predawn::test_an_element_has_no_leaf_of_the_one_before();
  predawn::test_written_strings_are_json();
  return predawn::testing::failures == 0 ? 0 : 1;
}
