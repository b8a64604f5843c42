// Prints the ranges of letters, numbers and white space that actors/data/tokenizer/unicode_class.cpp
// holds, by asking the reference encoder code point by code point: npm install tiktoken, then
//   node make_unicode_ranges.js
const { Tiktoken } = require('tiktoken');

const bytes = Array.from({ length: 256 }, (_, byte) => Buffer.from([byte]).toString('base64'));
for (const [name, pattern] of [['Letter', '\\p{L}'], ['Number', '\\p{N}'], ['Space', '\\s']]) {
  // What the pattern does not match is dropped: a character without ids is not in the class.
  const encoder = new Tiktoken('! 0 ' + bytes.join(' '), {}, pattern);
  const ranges = [];
  let first = -1;
  for (let code = 0; code <= 0x110000; ++code) {
    const scalar = code < 0x110000 && !(code >= 0xd800 && code < 0xe000);
    if (scalar && encoder.encode(String.fromCodePoint(code)).length > 0) {
      if (first < 0) first = code;
    } else if (first >= 0) {
      ranges.push(`{0x${first.toString(16).toUpperCase()}, 0x${(code - 1).toString(16).toUpperCase()}}`);
      first = -1;
    }
  }
  console.log(`constexpr uint32_t k${name}Ranges[][2] = {${ranges.join(', ')}};`);
}
