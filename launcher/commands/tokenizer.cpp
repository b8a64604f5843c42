// troupe tokenizer: train a vocabulary, turn text into ids and back, count tokens.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>

#include "actors/data/text_source.h"
#include "actors/data/tokenizer/bpe_trainer.h"
#include "actors/data/tokenizer/character_tokenizer.h"
#include "launcher/commands/command.h"
#include "launcher/commands/common.h"
#include "runtime/base/clock.h"
#include "runtime/base/human_format.h"
#include "runtime/base/json.h"
#include "runtime/base/progress.h"

namespace troupe::launcher {
namespace {

constexpr const char* kTokenizerHelp =
    "a folder that \"tokenizer train\" wrote, a tiktoken rank file, a SentencePiece .model, or \"bytes\"";
constexpr const char* kInputHelp = "text files, JSON lines (*.jsonl) or folders of them, each also as .gz, .dz or .zst";
constexpr int64_t kWholeDocument = int64_t{64} << 20;  // bytes; SentencePiece sees the text before as well

struct Options {
  std::string tokenizer;
  std::vector<std::string> inputs;
  std::string output;
  std::string pattern = "gpt2";
  std::string field = "text";
  std::string separator;
  int32_t vocabulary = 32768;
  int threads = 0;  // 0: all cores
  bool characters = false;
  bool json = false;
  bool quiet = false;
};

Result<std::string> read_stdin() {
  std::string content;
  std::vector<char> buffer(1 << 20);
  for (;;) {
    const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got == 0) return content;
    if (got > 0) {
      content.append(buffer.data(), static_cast<size_t>(got));
    } else if (errno != EINTR) {
      return failed("standard input cannot be read: {}", std::strerror(errno));
    }
  }
}

Status write_stdout(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size() && std::fflush(stdout) == 0) return {};
  return failed("standard output cannot be written: {}", std::strerror(errno));
}

Result<std::vector<int32_t>> encode_checked(const data::Tokenizer& tokenizer, std::string_view text, ThreadPool& pool) {
  TROUPE_TRY(tokenizer.can_encode(text));
  return tokenizer.encode_parallel(text, pool);
}

// With \n, \t, \f, \r and \\ as in most languages: a shell makes such characters hard to type.
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    constexpr std::string_view kNames = "ntfr\\", kValues = "\n\t\f\r\\";
    const size_t known = text[i] == '\\' && i + 1 < text.size() ? kNames.find(text[i + 1]) : std::string_view::npos;
    i += known != std::string_view::npos;
    out += known != std::string_view::npos ? kValues[known] : text[i];
  }
  return out;
}

Result<data::TextSource> open_inputs(const Options& options, int64_t fragment_bytes) {
  std::vector<data::InputFile> files = TROUPE_TRY(data::list_inputs(options.inputs));
  data::TextOptions text;
  text.field = options.field;
  text.separator = unescape(options.separator);
  text.fragment_bytes = fragment_bytes;
  return data::TextSource::create(std::move(files), std::move(text));
}

// Yields the fragments of a source as documents, and keeps the error that ended them.
class Documents {
 public:
  explicit Documents(data::TextSource& source) : source_(source) {}

  std::optional<std::string_view> next() {
    auto fragment = source_.next();
    if (!fragment.ok()) {
      status_ = std::move(fragment).error();
      return std::nullopt;
    }
    if (!*fragment) return std::nullopt;
    documents_ += (*fragment)->ends_document;
    bytes_ += static_cast<int64_t>((*fragment)->text.size());
    return (*fragment)->text;
  }
  const Status& status() const { return status_; }
  int64_t documents() const { return documents_; }
  int64_t bytes() const { return bytes_; }

 private:
  data::TextSource& source_;
  Status status_;
  int64_t documents_ = 0, bytes_ = 0;
};

Status train_characters(const Options& options) {
  data::TextSource source = TROUPE_TRY(open_inputs(options, kWholeDocument));
  Documents documents(source);
  auto tokenizer = data::CharacterTokenizer::learn([&] { return documents.next(); });
  TROUPE_TRY(Status(documents.status()));
  if (!tokenizer.ok()) return std::move(tokenizer).error();
  TROUPE_TRY((*tokenizer)->save(options.output));
  return write_stdout(fmt::format("{} ({}) learnt from {}\n", options.output, (*tokenizer)->description(),
                                  human_bytes(static_cast<double>(documents.bytes()))));
}

Status train(const Options& options) {
  if (options.characters) return train_characters(options);
  data::TextSource source = TROUPE_TRY(open_inputs(options, 256 << 10));
  Documents documents(source);
  ThreadPool pool(threads_or_default(options.threads));
  SteadyClock clock;
  ProgressLine line(clock, options.quiet ? ProgressOutput::none() : ProgressOutput::to_stderr());
  data::BpeTrainingOptions training;
  training.vocabulary_size = options.vocabulary;
  training.pattern = options.pattern;
  training.progress = [&](const data::BpeTrainingProgress& at) {
    if (!line.due()) return;
    std::vector<std::string> fields;
    if (at.merges == 0) {
      fields.push_back(fmt::format("counting {} of {}", human_bytes(static_cast<double>(source.bytes_done())),
                                   human_bytes(static_cast<double>(source.bytes_total()))));
    } else {
      fields.push_back(fmt::format("merge {}/{}", at.merges, at.merges_wanted));
    }
    line.show(fields);
  };
  auto trained = data::train_bpe([&] { return documents.next(); }, training, pool);
  TROUPE_TRY(Status(documents.status()));
  if (!trained.ok()) return std::move(trained).error();
  const data::BpeTokenizer& tokenizer = *trained->tokenizer;
  if (options.output.ends_with(".tiktoken")) {
    TROUPE_TRY(tokenizer.save_ranks(options.output));
  } else {
    TROUPE_TRY(tokenizer.save(options.output));
  }
  const double seconds = trained->counting_seconds + trained->merging_seconds;
  const double megabytes = static_cast<double>(trained->bytes) / 1e6;
  if (options.json) {
    JsonWriter out;
    out.begin_object()
        .field("output", options.output)
        .field("vocabulary_size", tokenizer.vocabulary_size())
        .field("pattern", options.pattern)
        .field("fingerprint", tokenizer.fingerprint())
        .field("documents", documents.documents())
        .field("bytes", trained->bytes)
        .field("distinct_pieces", trained->distinct_pieces)
        .field("counting_seconds", trained->counting_seconds)
        .field("merging_seconds", trained->merging_seconds)
        .field("megabytes_per_second", megabytes / seconds)
        .end_object();
    return write_stdout(out.text() + "\n");
  }
  std::string summary = fmt::format("{}: {}\n", options.output, tokenizer.description());
  if (tokenizer.vocabulary_size() < options.vocabulary) {
    summary +=
        fmt::format("  {} tokens were asked for, but no further pair occurs twice in this text\n", options.vocabulary);
  }
  summary += fmt::format(
      "  {:.1f} MB, {} distinct pieces, {:.2f} s on {} thread{} ({:.1f} MB/s): counting {:.2f} s, "
      "merging {:.2f} s\n",
      megabytes, trained->distinct_pieces, seconds, pool.size(), pool.size() == 1 ? "" : "s", megabytes / seconds,
      trained->counting_seconds, trained->merging_seconds);
  return write_stdout(summary);
}

Status encode(const Options& options) {
  const auto tokenizer = TROUPE_TRY(data::load_tokenizer(options.tokenizer));
  const std::string text = TROUPE_TRY(read_stdin());
  ThreadPool pool(threads_or_default(options.threads));
  const std::vector<int32_t> ids = TROUPE_TRY(encode_checked(*tokenizer, text, pool));
  fmt::memory_buffer out;
  for (const int32_t id : ids) {
    if (out.size() > 0) out.push_back(' ');
    fmt::format_to(std::back_inserter(out), "{}", id);
  }
  out.push_back('\n');
  return write_stdout({out.data(), out.size()});
}

Status decode(const Options& options) {
  const auto tokenizer = TROUPE_TRY(data::load_tokenizer(options.tokenizer));
  const std::string text = TROUPE_TRY(read_stdin());
  std::vector<int32_t> ids;
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == ','; };
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    if (is_space(*p)) {
      ++p;
      continue;
    }
    const char* word_end = std::find_if(p, end, is_space);
    int32_t id = -1;
    const auto [rest, error] = std::from_chars(p, word_end, id);
    if (error != std::errc() || rest != word_end || id < 0 || id >= tokenizer->vocabulary_size()) {
      return usage_error("id {} of the input is \"{}\", not a number from 0 to {}", ids.size() + 1,
                         std::string_view(p, static_cast<size_t>(std::min<ptrdiff_t>(word_end - p, 40))),
                         tokenizer->vocabulary_size() - 1);
    }
    ids.push_back(id);
    p = word_end;
  }
  return write_stdout(tokenizer->decode(ids));
}

Status count(const Options& options) {
  const auto tokenizer = TROUPE_TRY(data::load_tokenizer(options.tokenizer));
  ThreadPool pool(threads_or_default(options.threads));
  int64_t tokens = 0, bytes = 0;
  if (options.inputs.empty()) {
    const std::string text = TROUPE_TRY(read_stdin());
    const auto ids = TROUPE_TRY(encode_checked(*tokenizer, text, pool));
    tokens = static_cast<int64_t>(ids.size());
    bytes = static_cast<int64_t>(text.size());
  } else {
    data::TextSource source = TROUPE_TRY(open_inputs(options, kWholeDocument));
    for (;;) {
      const auto fragment = TROUPE_TRY(source.next());
      if (!fragment) break;
      auto ids = encode_checked(*tokenizer, fragment->text, pool);
      if (!ids.ok()) return std::move(ids).error().within(source.where());
      tokens += static_cast<int64_t>(ids->size());
      bytes += static_cast<int64_t>(fragment->text.size());
    }
  }
  const double ratio = tokens > 0 ? static_cast<double>(bytes) / static_cast<double>(tokens) : 0;
  if (options.json) {
    JsonWriter out;
    out.begin_object().field("tokens", tokens).field("bytes", bytes).field("bytes_per_token", ratio).end_object();
    return write_stdout(out.text() + "\n");
  }
  return write_stdout(fmt::format("{} tokens, {} bytes, {:.3f} bytes per token\n", tokens, bytes, ratio));
}

}  // namespace

void add_tokenizer_command(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("tokenizer", "Train a vocabulary, turn text into token ids and back, count tokens");
  command->require_subcommand(1);
  command->footer(
      "Example:\n"
      "  troupe tokenizer train --input corpus.txt --vocabulary 32768 --output my-tokenizer\n"
      "  echo 'Hello, world' | troupe tokenizer encode --tokenizer my-tokenizer\n"
      "  troupe tokenizer count --tokenizer my-tokenizer corpus.txt");
  auto options = std::make_shared<Options>();
  const auto add = [&](const char* name, const char* help, Status (*run)(const Options&)) {
    auto* sub = command->add_subcommand(name, help);
    sub->callback([&action, options, run] { action = [options, run] { return run(*options); }; });
    sub->add_option("--threads", options->threads, "threads to use (default: all cores)")
        ->check(CLI::Range(1, 1024))
        ->type_name("N");
    return sub;
  };
  const auto add_tokenizer = [&](CLI::App* sub) {
    sub->add_option("--tokenizer", options->tokenizer, kTokenizerHelp)->required()->type_name("PATH");
  };
  const auto add_inputs = [&](CLI::App* sub) {
    sub->add_option("--field", options->field, "which field of a JSON line is the text (default: text)")
        ->type_name("NAME");
    sub->add_option("--separator", options->separator, "text that ends a document within a file, such as \\n\\n or \\f")
        ->type_name("TEXT");
    return sub->add_option("--input,input", options->inputs, kInputHelp)->type_name("PATH");
  };

  auto* train_command = add("train", "Learn a byte-level BPE vocabulary from text", train);
  add_inputs(train_command)->required();
  train_command
      ->add_option("--vocabulary", options->vocabulary,
                   "number of tokens: 256 bytes, what is learnt, and <|endoftext|> (default: 32768)")
      ->check(CLI::Range(257, 1 << 24))
      ->type_name("N");
  train_command
      ->add_option("--output,--out", options->output,
                   "a folder for tokenizer.toml and its vocabulary, or a file NAME.tiktoken (with NAME.toml beside it)")
      ->required()
      ->type_name("PATH");
  train_command
      ->add_option("--pattern", options->pattern,
                   "how text is cut before merging: gpt2, cl100k, llama3 or a regular expression (default: gpt2)")
      ->type_name("NAME");
  train_command->add_flag("--characters", options->characters,
                          "make every character of the text a token, and learn nothing else");
  train_command->add_flag("--quiet", options->quiet, "show no progress");
  train_command->add_flag("--json", options->json, "print the summary as JSON");

  add_tokenizer(add("encode", "Read text from standard input, print its token ids on one line", encode));
  add_tokenizer(add("decode", "Read token ids from standard input, write their bytes", decode));

  auto* count_command = add("count", "Count the tokens of files, or of standard input", count);
  add_tokenizer(count_command);
  add_inputs(count_command);
  count_command->add_flag("--json", options->json, "print the counts as JSON");
}

}  // namespace troupe::launcher
