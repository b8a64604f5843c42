// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. A byte that begins no valid
// character is a character of its own, invalid and one byte long, so that every text can be walked.
#pragma once
#include <cstdint>
#include <string>

namespace troupe::data {

struct CodePoint {
  uint32_t value;  // the byte itself when invalid
  int length;      // bytes, 1–4
  bool valid;
};

// The character at `p`. REQUIRES: p < end.
inline CodePoint decode_utf8(const unsigned char* p, const unsigned char* end) {
  const uint32_t lead = p[0];
  if (lead < 0x80) return {lead, 1, true};
  const auto left = end - p;
  const auto continues = [p](int i) { return (p[i] & 0xC0) == 0x80; };
  if (lead >= 0xC2 && lead < 0xE0) {
    if (left >= 2 && continues(1)) return {(lead & 0x1F) << 6 | (p[1] & 0x3Fu), 2, true};
  } else if (lead >= 0xE0 && lead < 0xF0) {
    if (left >= 3 && continues(1) && continues(2)) {
      const uint32_t value = (lead & 0x0F) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
      if (value >= 0x800 && (value < 0xD800 || value > 0xDFFF)) return {value, 3, true};
    }
  } else if (lead >= 0xF0 && lead < 0xF5) {
    if (left >= 4 && continues(1) && continues(2) && continues(3)) {
      const uint32_t value = (lead & 0x07) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
      if (value >= 0x10000 && value <= 0x10FFFF) return {value, 4, true};
    }
  }
  return {lead, 1, false};
}

// Appends `value` to `text`. REQUIRES: a Unicode scalar value.
inline void append_utf8(std::string& text, uint32_t value) {
  const auto put = [&text](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xC0 | value >> 6), put(0x80 | (value & 0x3F));
  } else if (value < 0x10000) {
    put(0xE0 | value >> 12), put(0x80 | (value >> 6 & 0x3F)), put(0x80 | (value & 0x3F));
  } else {
    put(0xF0 | value >> 18), put(0x80 | (value >> 12 & 0x3F)), put(0x80 | (value >> 6 & 0x3F)),
        put(0x80 | (value & 0x3F));
  }
}

}  // namespace troupe::data
