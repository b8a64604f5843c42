// Called by make_golden.py: reads {"texts": […], "vocabularies": {name: {ranks, pattern}}} as JSON from
// standard input, prints {name: [ids of each text]} from the reference encoder (npm install tiktoken).
const { Tiktoken } = require('tiktoken');
const fs = require('fs');

const { texts, vocabularies } = JSON.parse(fs.readFileSync(0, 'utf8'));
const result = {};
for (const [name, { ranks, pattern }] of Object.entries(vocabularies)) {
  const tokens = ranks.trim().split('\n').map((line, rank) => {
    const [token, number] = line.split(' ');
    if (Number(number) !== rank) throw new Error(`${name}: rank ${number} on line ${rank + 1}`);
    return token;
  });
  const encoder = new Tiktoken('! 0 ' + tokens.join(' '), {}, pattern);
  result[name] = texts.map((text) => Array.from(encoder.encode(text, [], [])));
}
console.log(JSON.stringify(result));
