// Encoding and training speed of the tokenizers, with SentencePiece's own library beside ours:
//   tokenizer_bench --text FILE [--ranks gpt2.tiktoken] [--model llama2_tokenizer.model] [--benchmark_…]
// tests/bench/tiktoken_speed.js times the reference encoder on the same text. bytes_per_second counts
// the text's bytes over the CPU time of the calling thread, or over real time where threads are named.
#include <benchmark/benchmark.h>
#include <sentencepiece_processor.h>

#include <cstdio>
#include <string_view>

#include "actors/data/tokenizer/bpe_trainer.h"
#include "runtime/base/file.h"

namespace {

using namespace troupe;
using namespace troupe::data;

struct Inputs {
  std::string text;
  std::string model;  // path, or empty
  std::unique_ptr<Tokenizer> ranks, sentencepiece;
};

void count_bytes(benchmark::State& state, const std::string& text) {
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(text.size()));
}

void encode(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode(text));
  count_bytes(state, text);
}

void encode_parallel(benchmark::State& state, const Tokenizer& tokenizer, const std::string& text) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.encode_parallel(text, pool));
  count_bytes(state, text);
}

void library_encode(benchmark::State& state, const std::string& model, const std::string& text) {
  sentencepiece::SentencePieceProcessor processor;
  if (!processor.Load(model).ok()) return state.SkipWithError("the model cannot be loaded");
  for (auto _ : state) benchmark::DoNotOptimize(processor.EncodeAsIds(text));
  count_bytes(state, text);
}

void train(benchmark::State& state, const std::string& text) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    bool given = false;
    const auto documents = [&]() -> std::optional<std::string_view> {
      if (std::exchange(given, true)) return std::nullopt;
      return text;
    };
    const auto trained = train_bpe(documents, {}, pool);
    if (!trained.ok()) return state.SkipWithError(trained.error().message().c_str());
  }
  count_bytes(state, text);
}

Result<Inputs> read_inputs(int argc, char** argv) {
  Inputs inputs;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option.starts_with("--benchmark_")) continue;
    if (i + 1 == argc) return usage_error("{} needs a path", option);
    const std::string path = argv[++i];
    if (option == "--text") {
      inputs.text = TROUPE_TRY(read_file(path));
    } else if (option == "--ranks") {
      inputs.ranks = TROUPE_TRY(load_tokenizer(path));
    } else if (option == "--model") {
      inputs.model = path;
      inputs.sentencepiece = TROUPE_TRY(load_tokenizer(path));
    } else {
      return usage_error("unknown option {}", option);
    }
  }
  if (inputs.text.empty()) return usage_error("--text FILE is needed");
  return inputs;
}

}  // namespace

int main(int argc, char** argv) {
  auto read = read_inputs(argc, argv);
  if (!read.ok()) {
    std::fprintf(stderr, "tokenizer_bench: %s\n", read.error().message().c_str());
    return read.error().exit_code();
  }
  const Inputs inputs = *std::move(read);
  const std::string& text = inputs.text;
  if (inputs.ranks) {
    const Tokenizer& ranks = *inputs.ranks;
    benchmark::RegisterBenchmark("bpe/encode", [&](auto& state) { encode(state, ranks, text); });
    benchmark::RegisterBenchmark("bpe/encode_parallel", [&](auto& state) { encode_parallel(state, ranks, text); })
        ->Arg(1)
        ->Arg(2)
        ->UseRealTime();
  }
  if (inputs.sentencepiece) {
    const std::string some = text.substr(0, 4 << 20);  // the library needs minutes for tens of megabytes
    benchmark::RegisterBenchmark("sentencepiece/encode",
                                 [&inputs, some](auto& state) { encode(state, *inputs.sentencepiece, some); });
    benchmark::RegisterBenchmark("sentencepiece/library",
                                 [&inputs, some](auto& state) { library_encode(state, inputs.model, some); });
  }
  benchmark::RegisterBenchmark("bpe/train_32k", [&](auto& state) { train(state, text); })
      ->Arg(1)
      ->Arg(2)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
