// Learns a byte-level BPE (Gage 1994; Sennrich et al. 2016): starting from the 256 bytes, the most
// frequent adjacent pair within pieces becomes the next token, until the vocabulary is full.
//
// The result is a function of the documents and the options alone, whatever the number of threads or
// the order of the documents: of pairs equally frequent, the one with the lower left id is merged, and
// of those the one with the lower right id.
#pragma once
#include "actors/data/tokenizer/bpe_tokenizer.h"

namespace troupe::data {

struct BpeTrainingProgress {
  int64_t bytes_read;  // of the documents so far
  int64_t merges;      // tokens learnt so far; 0 while documents are read
  int64_t merges_wanted;
};

struct BpeTrainingOptions {
  int32_t vocabulary_size = 32768;  // all tokens: 256 bytes, merges, special tokens (which take the last ids)
  std::string pattern = "gpt2";     // pre-tokenisation, see PreTokenizer::create
  std::vector<std::string> special_tokens = {"<|endoftext|>"};
  int64_t min_pair_count = 2;                                     // a rarer pair is never merged
  std::function<void(const BpeTrainingProgress&)> progress = {};  // called from the caller's thread, now and then
};

struct BpeTraining {
  std::unique_ptr<BpeTokenizer> tokenizer;
  int64_t documents = 0;
  int64_t bytes = 0;
  int64_t distinct_pieces = 0;
  double counting_seconds = 0;  // reading, cutting and counting pieces
  double merging_seconds = 0;
};

// Reads all documents once; no merge crosses a document's end. Memory grows with the number of distinct
// pieces, not with the text. A text too poor in pairs gives a smaller vocabulary than asked for.
// Errors: usage (no text, vocabulary too small for the bytes, bad pattern).
Result<BpeTraining> train_bpe(const DocumentSource& documents, const BpeTrainingOptions& options, ThreadPool& pool);

}  // namespace troupe::data
