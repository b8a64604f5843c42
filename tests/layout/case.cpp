#include "tests/layout/case.h"

#include <algorithm>
#include <functional>
#include <map>
#include <sstream>

#include "runtime/base/random.h"

namespace troupe::layout {
namespace {

// A number of a case by name; enumerations and flags as theirs.
struct Field {
  std::string_view name;
  std::function<int64_t(const Case&)> get;
  std::function<void(Case&, int64_t)> set;
};

template <class Access>
Field field(std::string_view name, Access access) {
  return {name, [access](const Case& c) { return static_cast<int64_t>(access(const_cast<Case&>(c))); },
          [access](Case& c, int64_t value) {
            auto& to = access(c);
            to = static_cast<std::remove_reference_t<decltype(to)>>(value);
          }};
}

const std::vector<Field>& fields() {
  static const std::vector<Field> table{
      field("ranks.pipeline", [](Case& c) -> auto& { return c.mesh.pipeline; }),
      field("ranks.data", [](Case& c) -> auto& { return c.mesh.data; }),
      field("ranks.context", [](Case& c) -> auto& { return c.mesh.context; }),
      field("ranks.tensor", [](Case& c) -> auto& { return c.mesh.tensor; }),
      field("ranks.expert", [](Case& c) -> auto& { return c.mesh.expert; }),
      field("ranks.expert_tensor", [](Case& c) -> auto& { return c.mesh.expert_tensor; }),
      field("zero", [](Case& c) -> auto& { return c.sharing.zero; }),
      field("schedule", [](Case& c) -> auto& { return c.sharing.schedule; }),
      field("virtual_stages", [](Case& c) -> auto& { return c.sharing.virtual_stages; }),
      field("recompute", [](Case& c) -> auto& { return c.recompute; }),
      field("micro_batch", [](Case& c) -> auto& { return c.micro_batch; }),
      field("reference_micro_batch", [](Case& c) -> auto& { return c.reference_micro_batch; }),
      field("global_batch", [](Case& c) -> auto& { return c.global_batch; }),
      field("sequence_length", [](Case& c) -> auto& { return c.sequence_length; }),
      field("steps", [](Case& c) -> auto& { return c.steps; }),
      field("data_seed", [](Case& c) -> auto& { return c.data_seed; }),
      field("documents", [](Case& c) -> auto& { return c.documents; }),
      field("clip", [](Case& c) -> auto& { return c.clip; }),
      field("compute", [](Case& c) -> auto& { return c.compute; }),
      field("layers", [](Case& c) -> auto& { return c.model.layers; }),
      field("width", [](Case& c) -> auto& { return c.model.width; }),
      field("heads", [](Case& c) -> auto& { return c.model.heads; }),
      field("kv_heads", [](Case& c) -> auto& { return c.model.kv_heads; }),
      field("hidden", [](Case& c) -> auto& { return c.model.hidden; }),
      field("vocabulary", [](Case& c) -> auto& { return c.model.vocabulary; }),
      field("window", [](Case& c) -> auto& { return c.model.window; }),
      field("norm", [](Case& c) -> auto& { return c.model.norm; }),
      field("position", [](Case& c) -> auto& { return c.model.position; }),
      field("mlp", [](Case& c) -> auto& { return c.model.mlp; }),
      field("biases", [](Case& c) -> auto& { return c.model.biases; }),
      field("tied", [](Case& c) -> auto& { return c.model.tied; }),
      field("qk_norm", [](Case& c) -> auto& { return c.model.qk_norm; }),
      field("experts", [](Case& c) -> auto& { return c.model.experts.count; }),
      field("experts_per_token", [](Case& c) -> auto& { return c.model.experts.per_token; }),
      field("expert_hidden", [](Case& c) -> auto& { return c.model.experts.hidden; }),
      field("shared_experts", [](Case& c) -> auto& { return c.model.experts.shared; }),
      field("dense_layers", [](Case& c) -> auto& { return c.model.experts.dense_layers; }),
      field("router_score", [](Case& c) -> auto& { return c.model.experts.score; }),
      field("router_normalize", [](Case& c) -> auto& { return c.model.experts.normalize; }),
      field("balance_loss_percent", [](Case& c) -> auto& { return c.balance_loss_percent; }),
      field("z_loss_percent", [](Case& c) -> auto& { return c.z_loss_percent; }),
      field("bias_rate_permille", [](Case& c) -> auto& { return c.bias_rate_permille; }),
      field("label_smoothing_percent", [](Case& c) -> auto& { return c.label_smoothing_percent; }),
      field("softcaps", [](Case& c) -> auto& { return c.softcaps; }),
      field("sgd", [](Case& c) -> auto& { return c.sgd; }),
      field("exchange", [](Case& c) -> auto& { return c.exchange; }),
      field("dropout_percent", [](Case& c) -> auto& { return c.dropout_percent; }),
  };
  return table;
}

Case plain() {
  Case c;
  c.model.vocabulary = 23;
  c.model.context = 64;
  c.model.layers = 1;
  c.model.width = 8;
  c.model.heads = 2;
  c.model.kv_heads = 2;
  c.model.hidden = 12;
  c.model.initial_deviation = 0.2f;  // so that everything matters from the first step on
  c.model.experts.hidden = 8;
  return c;
}

// Fills in what follows from the rest. Errors: the case is none.
Status complete(Case& c) {
  c.model.dropout = static_cast<float>(c.dropout_percent) / 100;
  c.model.attention_softcap = c.softcaps ? 3 : 0;
  c.model.logit_softcap = c.softcaps ? 5 : 0;
  c.model.head_width = 0;
  parallel::ExpertConfig& experts = c.model.experts;
  experts.balance_loss = static_cast<float>(c.balance_loss_percent) / 100;
  experts.z_loss = static_cast<float>(c.z_loss_percent) / 100;
  experts.bias_rate = static_cast<float>(c.bias_rate_permille) / 1000;
  c.sharing.context_exchange = {};
  if (c.exchange > 0)
    c.sharing.context_exchange = c.exchange == 1 ? parallel::ContextExchange::ring : parallel::ContextExchange::gather;
  TROUPE_TRY(c.model.complete());
  c.mesh.kv_sharing = std::max<int>(1, c.mesh.tensor / static_cast<int>(c.model.kv_heads));
  const auto divides = [](int64_t part, int64_t whole) { return part > 0 && whole % part == 0; };
  const int64_t share = c.mesh.data > 0 ? c.global_batch / c.mesh.data : 0;
  const bool valid =
      c.sequence_length > 0 && c.steps > 0 && c.model.vocabulary > 1 && divides(c.mesh.tensor, c.model.heads) &&
      divides(c.mesh.tensor, c.model.hidden) &&
      (divides(c.mesh.tensor, c.model.kv_heads) || divides(c.model.kv_heads, c.mesh.tensor)) &&
      divides(c.mesh.data, c.global_batch) && divides(c.micro_batch, share) &&
      divides(c.reference_micro_batch, c.global_batch) &&
      c.mesh.pipeline * c.sharing.virtual_stages <= c.model.layers &&
      divides(c.mesh.expert * c.mesh.expert_tensor, c.mesh.stage_ranks()) &&
      (experts.count == 0 ? c.mesh.expert * c.mesh.expert_tensor == 1
                          : divides(c.mesh.expert, experts.count) && divides(c.mesh.expert_tensor, experts.hidden) &&
                                divides(c.mesh.tensor, experts.shared * experts.hidden));
  if (!valid) return usage_error("no such layout: {}", c.to_string());
  const parallel::Pipeline pipeline{c.sharing.schedule, c.mesh.pipeline, c.sharing.virtual_stages,
                                    static_cast<int>(share / c.micro_batch)};
  return parallel::check(pipeline, static_cast<int>(c.model.layers));
}

// One of the divisors of `whole`, at most `most`.
int64_t divisor(RandomStream& random, int64_t whole, int64_t most) {
  std::vector<int64_t> all;
  for (int64_t d = 1; d <= std::min(whole, most); ++d) {
    if (whole % d == 0) all.push_back(d);
  }
  return all[random.below(all.size())];
}

}  // namespace

std::string Case::to_string() const {
  const Case standard = plain();
  std::string text;
  for (const Field& f : fields()) {
    if (f.get(*this) != f.get(standard)) text += fmt::format("{}{}={}", text.empty() ? "" : " ", f.name, f.get(*this));
  }
  return text;
}

Result<Case> parse_case(const std::string& text) {
  Case c = plain();
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const size_t at = word.find('=');
    const auto found = std::ranges::find(fields(), word.substr(0, at), &Field::name);
    if (at == std::string::npos || found == fields().end()) return usage_error("\"{}\" is nothing of a case", word);
    found->set(c, std::stoll(word.substr(at + 1)));
  }
  TROUPE_TRY(complete(c));
  return c;
}

Result<bool> fits(const Case& c, const std::string& words) {
  const auto divided = [](int64_t size, int64_t parts) { return (parts - size % parts) % parts; };
  const int64_t cuts = c.mesh.tensor * (c.mesh.context > 1 ? 2 * c.mesh.context : 1);
  const int64_t padded = c.sequence_length + divided(c.sequence_length, cuts);
  // Pieces of a sequence, two a context rank, that hold more than padding.
  const int64_t piece = padded / (2 * c.mesh.context), pieces = (c.sequence_length + piece - 1) / piece;
  const bool plain = c.model.window == 0 && !c.documents;
  const std::map<std::string_view, int64_t> following{
      {"ranks", c.mesh.ranks()},
      {"microbatches", c.global_batch / c.mesh.data / c.micro_batch},
      {"stage_ranks", c.mesh.stage_ranks()},
      {"replicas", c.mesh.data * c.mesh.context},
      {"sequence_ranks", c.mesh.context * c.mesh.tensor},
      {"ring", c.mesh.context > 1 && (c.exchange == 1 || (c.exchange == 0 && plain))},
      {"pieces", pieces},
      {"second_pieces", std::max<int64_t>(0, pieces - c.mesh.context)},
      {"span", c.model.window > 0 ? c.model.window : c.sequence_length},
      {"local_experts", c.model.experts.count / c.mesh.expert},
      {"unchosen_experts", c.model.experts.count - c.model.experts.per_token},
      {"padding", divided(c.sequence_length, cuts)},
      {"vocabulary_padding", divided(c.model.vocabulary, c.mesh.tensor)},
      {"kv_sharing", c.mesh.kv_sharing},
  };
  std::istringstream list(words);
  bool fit = true;
  for (std::string word; list >> word;) {
    const size_t at = word.find_first_of("=<>");
    const std::string name = word.substr(0, at);
    const auto field = std::ranges::find(fields(), name, &Field::name);
    const auto follows = following.find(name);
    if (at == std::string::npos || (field == fields().end() && follows == following.end()))
      return usage_error("\"{}\" says nothing about a case", word);
    const int64_t value = field != fields().end() ? field->get(c) : follows->second;
    const int64_t bound = std::stoll(word.substr(at + 1));
    fit = fit && (word[at] == '=' ? value == bound : word[at] == '<' ? value < bound : value > bound);
  }
  return fit;
}

Case draw_case(uint64_t seed, DType compute, int max_ranks) {
  RandomStream random{.key = derive_key(seed, hash_name("layout case"))};
  const auto flag = [&] { return random.below(2) == 1; };
  const auto one_of = [&](std::initializer_list<int64_t> values) {
    return *(values.begin() + random.below(values.size()));
  };
  while (true) {
    Case c = plain();
    c.model.heads = one_of({1, 2, 4, 8});
    c.model.kv_heads = divisor(random, c.model.heads, 8);
    c.model.width = c.model.heads * one_of({4, 6});
    c.model.hidden = one_of({8, 16, 24});
    c.model.layers = one_of({1, 2, 3, 4, 5});
    c.model.vocabulary = one_of({19, 23, 32});
    c.model.tied = flag();
    c.model.biases = flag();
    c.model.qk_norm = flag();
    c.model.window = flag() ? one_of({1, 3, 5}) : 0;
    c.model.norm = flag() ? parallel::NormKind::layer : parallel::NormKind::rms;
    c.model.position = flag() ? parallel::PositionKind::learned : parallel::PositionKind::rope;
    c.model.mlp = static_cast<parallel::MlpKind>(random.below(3));
    c.compute = compute;
    c.steps = compute == DType::f64 ? 10 : compute == DType::f32 ? 2 : 4;
    c.dropout_percent = flag() ? 20 : 0;
    c.label_smoothing_percent = random.below(4) == 0 ? 10 : 0;
    c.softcaps = random.below(4) == 0;
    c.sgd = flag();
    c.exchange = static_cast<int64_t>(random.below(3));
    c.sequence_length = one_of({5, 8, 11, 16});
    c.global_batch = one_of({2, 4, 6, 8, 12});
    c.data_seed = random.below(1'000'000);
    c.documents = flag();
    c.clip = flag();
    c.reference_micro_batch = divisor(random, c.global_batch, c.global_batch);
    c.mesh.tensor = static_cast<int>(one_of({1, 1, 2, 4, 8}));
    c.mesh.context = static_cast<int>(one_of({1, 1, 2, 3, 4}));
    c.mesh.pipeline = static_cast<int>(one_of({1, 1, 2, 3, 4}));
    c.mesh.data = static_cast<int>(divisor(random, c.global_batch, 8));
    c.sharing.zero = static_cast<int>(random.below(4));
    c.sharing.virtual_stages = static_cast<int>(one_of({1, 1, 2, 3}));
    c.sharing.schedule = c.sharing.virtual_stages > 1 ? parallel::Schedule::interleaved
                         : flag()                     ? parallel::Schedule::one_f_one_b
                                                      : parallel::Schedule::gpipe;
    c.recompute = static_cast<parallel::Recompute>(random.below(3));
    c.micro_batch = divisor(random, c.global_batch / c.mesh.data, 8);
    // One rank that takes as many sequences at a time as the layout would be wrong together with it.
    if (const int64_t together = c.mesh.data * c.micro_batch; c.reference_micro_batch == together)
      c.reference_micro_batch = together < c.global_batch ? c.global_batch : 1;
    if (flag()) {
      parallel::ExpertConfig& e = c.model.experts;
      e.count = one_of({2, 4, 6, 8});
      e.per_token = 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(std::min<int64_t>(e.count, 3))));
      e.hidden = one_of({4, 8});
      e.shared = one_of({0, 1, 2});
      e.dense_layers = static_cast<int64_t>(random.below(static_cast<uint64_t>(c.model.layers)));
      e.score = flag() ? parallel::RouterScore::sigmoid : parallel::RouterScore::softmax;
      e.normalize = flag();
      c.balance_loss_percent = flag() ? 10 : 0;
      c.z_loss_percent = flag() ? 10 : 0;
      c.bias_rate_permille = flag() ? 10 : 0;
      c.mesh.expert = static_cast<int>(divisor(random, e.count, 8));
      c.mesh.expert_tensor = static_cast<int>(one_of({1, 1, 2, 4}));
    }
    if (c.mesh.ranks() > 1 && c.mesh.ranks() <= max_ranks && complete(c).ok()) return c;
  }
}

std::vector<Case> simpler_cases(const Case& of) {
  const Case standard = plain();
  std::vector<Case> all;
  const auto offer = [&](Case c) {
    if (complete(c).ok() && c.to_string() != of.to_string()) all.push_back(std::move(c));
  };
  for (const Field& f : fields()) {
    const int64_t value = f.get(of), simplest = f.get(standard);
    if (value == simplest) continue;
    for (int64_t other : {simplest, value / 2, value - 1}) {
      Case c = of;
      f.set(c, other);
      offer(c);
    }
  }
  return all;
}

}  // namespace troupe::layout
