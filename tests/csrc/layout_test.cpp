// Everything lies within the file, and a header that says otherwise is refused, field by field.
#include "layout.hpp"

#include <algorithm>
#include <functional>
#include <random>
#include <vector>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::contains;
using testing::thrown;

const TableShape kShape{1'000, 64, 2, Dtype::kFp16, IdKind::kString, Placement::kUserMajor};

TableHeader good() { return make_header(kShape, Seed{1, 2, 3}, 1'700'000'000'000); }

std::string refusal(const TableHeader& header, std::uint64_t size) {
  return thrown<StoreError>([&] { (void)check_header(header, size, "/the/path"); });
}

void test_layout_of_a_shape() {
  const Layout layout = layout_of(kShape);
  EXPECT(layout.sets == 72);
  EXPECT(layout.row_bytes == 256 && layout.slot_bytes == 320);
  EXPECT(layout.lines_at == kPreambleBytes);
  EXPECT(layout.slots_at % kPageBytes == 0);
  EXPECT(layout.slots_at >= layout.lines_at + layout.sets * kLineBytes);
  EXPECT(layout.file_bytes >= layout.slots_at + layout.sets * kSlots * layout.slot_bytes);
  EXPECT(layout.file_bytes % kPageBytes == 0);
  const Layout large = layout_of({1'000'000, 64, 1, Dtype::kFp32});
  EXPECT(large.file_bytes % kHugePageBytes == 0);
}

void test_largest_shape_does_not_overflow() {
  const Layout layout = layout_of({kCapacityMost, kDimMost, kPartsMost, Dtype::kFp32});
  EXPECT(layout.file_bytes / layout.slot_bytes / kSlots >= kCapacityMost / kWays);
  EXPECT(layout.slot_bytes == kDimMost * kPartsMost * 4 + kLineBytes);
}

void test_bad_shapes_name_their_field() {
  const auto refused = [](TableShape shape) {
    return thrown<std::invalid_argument>([&] { (void)layout_of(shape); });
  };
  EXPECT(contains(refused({0, 64, 1}), "capacity: 0"));
  EXPECT(contains(refused({kCapacityMost + 1, 64, 1}), "capacity"));
  EXPECT(contains(refused({1, 0, 1}), "dim: 0"));
  EXPECT(contains(refused({1, kDimMost + 1, 1}), "dim"));
  EXPECT(contains(refused({1, 64, 0}), "parts: 0"));
  EXPECT(contains(refused({1, 64, kPartsMost + 1}), "parts"));
  EXPECT(contains(refused({1, 64, kScales + 1, Dtype::kInt8}), "parts"));
  EXPECT(contains(refused({1, 64, 1, static_cast<Dtype>(9)}), "dtype"));
}

void test_good_header_is_believed() {
  for (const TableShape& shape :
       {kShape, TableShape{kCapacityMost, 1, 1, Dtype::kInt8}, TableShape{1, 1, 1, Dtype::kFp32}}) {
    const TableHeader header = make_header(shape, Seed{}, 0);
    EXPECT(refusal(header, header.file_bytes).empty());
    const TableShape told = shape_of(header);
    EXPECT(told.dim == shape.dim && told.dtype == shape.dtype && told.capacity >= shape.capacity);
    EXPECT(told.id_kind == shape.id_kind && told.placement == shape.placement);
  }
}

void test_any_flipped_bit_is_refused() {
  const TableHeader header = good();
  for (std::size_t bit = 0; bit < sizeof header * 8; ++bit) {
    TableHeader damaged = header;
    reinterpret_cast<unsigned char*>(&damaged)[bit / 8] ^=
        static_cast<unsigned char>(1u << (bit % 8));
    EXPECT(contains(refusal(damaged, header.file_bytes), "/the/path"));
  }
}

// With the checksum made to fit.
void test_each_field_is_checked() {
  struct Damage {
    const char* named;
    std::function<void(TableHeader&)> make;
  };
  const std::vector<Damage> damages{
      {"the magic number", [](TableHeader& h) { h.magic ^= 1; }},
      {"the byte order", [](TableHeader& h) { h.magic = __builtin_bswap64(h.magic); }},
      {"the format version is 9, expected 2", [](TableHeader& h) { h.format = 9; }},
      {"the byte order mark", [](TableHeader& h) { h.endian = 0x04030201; }},
      {"the layout hash", [](TableHeader& h) { ++h.layout_hash; }},
      {"ways", [](TableHeader& h) { h.ways = 15; }},
      {"slots", [](TableHeader& h) { h.slots = 17; }},
      {"sets", [](TableHeader& h) { h.sets = 0; }},
      {"sets", [](TableHeader& h) { h.sets = UINT64_MAX / 64; }},
      {"dim", [](TableHeader& h) { h.dim = 0; }},
      {"dim", [](TableHeader& h) { h.dim = UINT32_MAX; }},
      {"parts", [](TableHeader& h) { h.parts = 0; }},
      {"parts", [](TableHeader& h) { h.parts = UINT32_MAX; }},
      {"dtype", [](TableHeader& h) { h.dtype = static_cast<Dtype>(200); }},
      {"id_kind", [](TableHeader& h) { h.id_kind = static_cast<IdKind>(2); }},
      {"placement", [](TableHeader& h) { h.placement = static_cast<Placement>(2); }},
      {"the reserved byte", [](TableHeader& h) { h.reserved = 1; }},
      {"slot_bytes", [](TableHeader& h) { h.slot_bytes = 64; }},
      {"slot_bytes", [](TableHeader& h) { h.dim = 65; }},
      {"lines_at", [](TableHeader& h) { h.lines_at = UINT64_MAX; }},
      {"slots_at", [](TableHeader& h) { h.slots_at += 64; }},
      {"slots_at", [](TableHeader& h) { h.sets *= 2; }},
      {"file_bytes", [](TableHeader& h) { h.file_bytes = UINT64_MAX; }},
  };
  for (const Damage& damage : damages) {
    TableHeader header = good();
    const std::uint64_t size = header.file_bytes;
    damage.make(header);
    header.checksum = detail::header_checksum(header);
    const std::string text = refusal(header, size);
    EXPECT(contains(text, std::string("'/the/path': ") + damage.named));
    if (!contains(text, damage.named)) std::fprintf(stderr, "%s: %s\n", damage.named, text.c_str());
  }
}

void test_sizes_are_checked() {
  const TableHeader header = good();
  EXPECT(contains(refusal(header, header.file_bytes - 1), "truncated"));
  EXPECT(contains(refusal(header, header.file_bytes + 1), "too large"));
  EXPECT(contains(refusal(header, 100), "truncated, or no store"));
  EXPECT(contains(refusal(TableHeader{}, 0), "0 bytes"));
  EXPECT(contains(refusal(TableHeader{}, 100), "magic"));
}

// Whatever passes leads nowhere but into the file.
void test_random_headers_stay_inside() {
  std::mt19937_64 random(1);
  unsigned passed = 0;
  for (int round = 0; round < 200'000; ++round) {
    TableHeader header = good();
    for (unsigned i = 0; i <= random() % 3; ++i) {
      reinterpret_cast<unsigned char*>(&header)[16 + random() % 104] =
          static_cast<unsigned char>(random());
    }
    header.checksum = detail::header_checksum(header);
    const std::uint64_t size = good().file_bytes;
    Layout layout;
    if (!thrown<StoreError>([&] { layout = check_header(header, size, "x"); }).empty()) continue;
    ++passed;
    EXPECT(layout.slots_at + layout.sets * kSlots * layout.slot_bytes <= size);
    EXPECT(layout.lines_at + layout.sets * kLineBytes <= layout.slots_at);
  }
  EXPECT(passed > 0);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_layout_of_a_shape();
  predawn::test_largest_shape_does_not_overflow();
  predawn::test_bad_shapes_name_their_field();
  predawn::test_good_header_is_believed();
  predawn::test_any_flipped_bit_is_refused();
  predawn::test_each_field_is_checked();
  predawn::test_sizes_are_checked();
  predawn::test_random_headers_stay_inside();
  return predawn::testing::failures == 0 ? 0 : 1;
}
