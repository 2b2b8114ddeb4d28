// What the supervisor finds: keys where the plan wants them, puts beside a stopped writer, sets
// that stay claimed, and each kind of damage that is planted.
#include "torture_audit.hpp"

#include "expect.hpp"
#include "oracle_file.hpp"

namespace predawn::torture {
namespace {

struct Chamber {
  Chamber()
      : name("/dev/shm/predawn-audit-" + std::to_string(::getpid())),
        file(OracleFile::create(name + ".oracle",
                                {.keys = 12, .shared = 4, .endings = 64, .workers = 1})),
        cache(Cache::create(name, {.capacity = 140, .dim = kDim, .parts = 1, .dtype = Dtype::kFp32},
                            Seed{3}, 0, {.huge_pages = false})) {
    choose_keys(oracle(), cache->table(), 2, true, 5);
    cache->table().accept_age(kNowMs);
  }
  ~Chamber() {
    ::unlink(name.c_str());
    ::unlink((name + ".oracle").c_str());
  }
  Chamber(const Chamber&) = delete;
  Chamber& operator=(const Chamber&) = delete;

  [[nodiscard]] Oracle& oracle() const { return file.oracle(); }
  [[nodiscard]] std::uint64_t wrong(Wrong kind) const {
    return oracle().wrongs[static_cast<std::size_t>(kind)].load();
  }

  // A version of every key, as a torturer would put it.
  void put_all() const {
    for (std::uint32_t key = 0; key < oracle().plan.keys; ++key) {
      const Stamp stamp = begin_change(oracle(), oracle().workers[0], key, 0);
      std::array<float, kDim> row;
      make_row({key, 0, stamp, 2}, row.data());
      const Key where = oracle().key(key);
      const bool is_done = cache->put_many(std::span(&where, 1), row.data(), {2, 0, 0}) == 1;
      end_change(oracle(), oracle().workers[0], key, 0, stamp, true, is_done);
    }
  }

  std::string name;
  OracleFile file;
  std::unique_ptr<Cache> cache;
};

void test_keys_are_crowded_as_planned() {
  const Chamber chamber;
  for (std::uint32_t key = 0; key < 12; ++key) {
    const Place place = chamber.cache->table().place(chamber.oracle().key(key));
    EXPECT(place.set < 2 && place.fingerprint == 0x5a5);
  }
}

void test_a_sound_store_is_found_sound() {
  const Chamber chamber;
  chamber.put_all();
  chamber.put_all();
  Audit audit(chamber.oracle(), chamber.name, 1);
  EXPECT(audit.found() == 12 && audit.claimed_sets() == 0 && audit.stuck_sets() == 0);
  for (const auto& count : chamber.oracle().wrongs) EXPECT(count.load() == 0);
}

void test_puts_beside_a_claim_succeed_and_are_counted() {
  const Chamber chamber;
  chamber.put_all();
  Audit audit(chamber.oracle(), chamber.name, 1);
  // A worker that stands between its claim and its publication.
  JournalLease lease = const_cast<Segment&>(chamber.cache->segment()).lease();
  auto* line = chamber.cache->table().set(1).line;
  lease.line()->claim.store(ClaimNote(1, 15, lease.generation()).word());
  EXPECT(exchange_word(*line, load_word(*line), load_word(*line).with_claim(15)));
  chamber.oracle().workers[0].attachment.store(chamber.cache->segment().attachment() + 1);
  const std::uint32_t stopped = 0;
  const Beside beside = audit.put_beside(std::span(&stopped, 1));
  EXPECT(beside.claims == 1 && beside.puts == 4 && beside.failed == 0);
  EXPECT(audit.claimed_sets() == 1 && audit.stuck_sets() == 1);  // it lives: its claim stays
}

void test_planted_damage_is_found_by_its_name() {
  const auto plant = [](auto&& damage, Wrong wrong) {
    const Chamber chamber;
    chamber.put_all();
    chamber.put_all();
    Audit audit(chamber.oracle(), chamber.name, 1);
    (void)audit.found();
    // It hits ways at random, empty ones, too.
    for (int tries = 0; tries < 60 && chamber.wrong(wrong) == 0; ++tries) {
      damage(audit);
      (void)audit.found();
    }
    EXPECT(chamber.wrong(wrong) != 0);
  };
  plant([](Audit& audit) { audit.plant_wrong_key(); }, Wrong::kWrongKey);
  plant([](Audit& audit) { audit.plant_stamp(true); }, Wrong::kOlderThanSeen);
  plant([](Audit& audit) { audit.plant_stamp(false); }, Wrong::kUnpublished);
  plant([](Audit& audit) { audit.plant_torn(); }, Wrong::kTorn);
}

}  // namespace
}  // namespace predawn::torture

int main() {
  using namespace predawn::torture;
  test_keys_are_crowded_as_planned();
  test_a_sound_store_is_found_sound();
  test_puts_beside_a_claim_succeed_and_are_counted();
  test_planted_damage_is_found_by_its_name();
  return predawn::testing::failures == 0 ? 0 : 1;
}
