// The candidates of one request: ids as 64-bit hashes, where they stand in the body, features.
//
// Candidates do not own the body: functions that need an id's text are handed it again. Ids go
// back to the caller byte for byte as they came, by copying their token out of the body.
// Memory: 16 bytes a candidate and 4 a feature, at most `max_items` of them.

#pragma once

#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "json_ids.hpp"
#include "json_text.hpp"
#include "siphash.hpp"

namespace predawn {

// Two equal candidates, or first == second when there are none.
struct Twins {
  std::size_t first = 0;
  std::size_t second = 0;
};

// Spreads ids over the duplicate set, keyed at random once a process: nobody can choose ids that
// all fall into one place and so make the set quadratic. The result does not depend on the key.
[[nodiscard]] inline std::uint64_t spread(std::uint64_t id) noexcept {
  static const std::uint64_t key = [] {
    std::random_device device;
    return (static_cast<std::uint64_t>(device()) << 32 | device()) | 1U;
  }();
  const auto product = static_cast<unsigned __int128>(id ^ (key >> 1)) * key;
  return static_cast<std::uint64_t>(product >> 64) ^ static_cast<std::uint64_t>(product);
}

class Candidates {
 public:
  void start(std::size_t features) noexcept { width_ = features; }

  // A candidate whose id and features follow, in any order; absent features are 0.
  void add() noexcept {
    hashes_.push_back(0);
    spans_.push_back({0, 0});
    features_.resize(features_.size() + width_, 0.0F);
  }

  void identify(std::uint64_t hash, Span token) noexcept {
    hashes_.back() = hash;
    spans_.back() = token;
  }

  // A feature of the candidate added last.
  void set(std::size_t column, float value) noexcept {
    features_[features_.size() - width_ + column] = value;
  }

  [[nodiscard]] std::size_t size() const noexcept { return hashes_.size(); }
  [[nodiscard]] const std::uint64_t* hashes() const noexcept { return hashes_.data(); }
  [[nodiscard]] const float* features() const noexcept { return features_.data(); }

  // The first candidate that repeats an earlier one. Open addressing, at most half full.
  [[nodiscard]] Twins twins(const char* body, bool strings) const noexcept {
    const std::size_t mask = std::bit_ceil(2 * hashes_.size() + 1) - 1;
    std::vector<std::uint32_t> places(mask + 1, 0);  // position + 1; 0: free
    for (std::size_t i = 0; i < hashes_.size(); ++i) {
      std::size_t place = spread(hashes_[i]) & mask;
      for (; places[place] != 0; place = (place + 1) & mask) {
        const std::size_t other = places[place] - 1U;
        if (hashes_[other] == hashes_[i] && (!strings || same_text(body, other, i))) {
          return {other, i};
        }
      }
      places[place] = static_cast<std::uint32_t>(i + 1);
    }
    return {};
  }

  // keys uint64 [n, 2] of (user, item): the two integers where both are; else SipHash-128 of
  // kind and text of both, the user's with its length, so that no two pairs read the same.
  void pair_keys(const char* body, bool strings, const std::uint64_t* user, const char* user_text,
                 std::size_t user_size, SipKey key, std::uint64_t* keys) const noexcept {
    const bool hashed = strings || user == nullptr;
    char message[2 * (kTextLimit + 8)];
    std::size_t prefix = 0;
    if (hashed) prefix = put_user(message, user, user_text, user_size);
    TextReader reader;
    for (std::size_t i = 0; i < hashes_.size(); ++i) {
      if (!hashed) {
        keys[2 * i] = *user;
        keys[2 * i + 1] = hashes_[i];
        continue;
      }
      Text item{reinterpret_cast<const char*>(&hashes_[i]), sizeof(std::uint64_t)};
      if (strings) item = text_of(body, spans_[i], &reader);
      message[prefix] = strings ? 's' : 'i';
      std::memcpy(message + prefix + 1, item.data, item.size);
      const auto hash = siphash128(key, message, prefix + 1 + item.size);
      keys[2 * i] = hash.lo;
      keys[2 * i + 1] = hash.hi;
    }
  }

  // Appends {"id":...,"score":...} of the candidates in `order`, with commas between. False: a
  // position that is not there, or a score that is not finite.
  [[nodiscard]] bool write(const char* body, const std::int64_t* order, std::size_t count,
                           const float* scores, std::string* out) const noexcept {
    out->reserve(out->size() + count * 64);
    for (std::size_t k = 0; k < count; ++k) {
      const auto i = static_cast<std::size_t>(order[k]);
      if (i >= spans_.size() || scores[i] - scores[i] != 0.0F) return false;
      out->append(k == 0 ? "{\"id\":" : ",{\"id\":");
      out->append(body + spans_[i].begin, spans_[i].end - spans_[i].begin);
      char digits[32];
      const auto end = std::to_chars(digits, digits + sizeof(digits), scores[i]).ptr;
      out->append(",\"score\":").append(digits, end);
      // "-0" is an integer to many readers, which have no negative one.
      out->append(std::signbit(scores[i]) && scores[i] == 0.0F ? ".0}" : "}");
    }
    return true;
  }

 private:
  [[nodiscard]] bool same_text(const char* body, std::size_t a, std::size_t b) const noexcept {
    TextReader readers[2];
    const Text left = text_of(body, spans_[a], &readers[0]);
    const Text right = text_of(body, spans_[b], &readers[1]);
    return left.size == right.size && std::memcmp(left.data, right.data, left.size) == 0;
  }

  static std::size_t put_user(char* message, const std::uint64_t* user, const char* text,
                              std::size_t size) noexcept {
    const char* data = user == nullptr ? text : reinterpret_cast<const char*>(user);
    const auto length = static_cast<std::uint16_t>(user == nullptr ? size : sizeof(*user));
    message[0] = user == nullptr ? 's' : 'i';
    std::memcpy(message + 1, &length, sizeof(length));
    std::memcpy(message + 3, data, length);
    return 3U + length;
  }

  std::size_t width_ = 0;
  std::vector<std::uint64_t> hashes_;
  std::vector<Span> spans_;
  std::vector<float> features_;
};

}  // namespace predawn
