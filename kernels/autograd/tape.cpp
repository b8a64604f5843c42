#include "kernels/autograd/tape.h"

#include <algorithm>
#include <utility>

#include "kernels/ops/kernels.h"

namespace troupe::kernels {

struct Tape::Uses {
  std::unordered_map<Leaf*, int> left;
  int64_t noted = 0;
};

struct Backward::Node {
  struct Input {
    std::shared_ptr<detail::GradientSlot> slot;
    Leaf* leaf = nullptr;
    Shape shape;
    DType dtype = DType::f32;
  };
  std::string operation;
  std::vector<Input> inputs;
  std::vector<std::shared_ptr<detail::GradientSlot>> outputs;
  std::vector<Tensor> output_gradients;  // while it runs, and until backward_weights() where that is apart
  bool has_weights = false;
  bool replays = false;  // its parameters are known to the replay alone
  BackwardFunction backward;
};

Value Value::reshape(Shape shape) const {
  TROUPE_CHECK(leaf_ == nullptr, "a parameter is not reshaped");
  const Shape before = tensor_.shape();
  return tape_->record("reshape", tensor_.reshape(shape), {*this}, [before](Backward& back) {
    if (back.wants(0)) back.give(0, back.output_gradient().reshape(before));
  });
}

Device& Backward::device() const { return tape_.device(); }

const Tensor& Backward::output_gradient(int index) const { return node_.output_gradients[static_cast<size_t>(index)]; }

bool Backward::wants(int index) const {
  const Node::Input& input = node_.inputs[static_cast<size_t>(index)];
  if (input.leaf != nullptr) return part_ != GradientPart::inputs && input.leaf->trainable();
  return part_ != GradientPart::weights && input.slot != nullptr;
}

GradientTarget Backward::target(int index) {
  Node::Input& input = node_.inputs[static_cast<size_t>(index)];
  if (input.leaf != nullptr) return input.leaf->gradient();
  TROUPE_CHECK(input.slot, "{}: input {} wants no gradient", node_.operation, index);
  Tensor& gradient = input.slot->gradient;
  if (!gradient.defined()) {
    gradient = Tensor::empty(device(), input.dtype, input.shape);
    return {gradient, false};
  }
  if (!gradient.unique()) gradient = gradient.to(gradient.dtype());
  return {gradient, true};
}

void Backward::give(int index, Tensor gradient) {
  Node::Input& input = node_.inputs[static_cast<size_t>(index)];
  if (input.leaf == nullptr && !input.slot->gradient.defined() && gradient.dtype() == input.dtype) {
    input.slot->gradient = gradient.reshape(input.shape);
    return;
  }
  GradientTarget into = target(index);
  if (into.accumulate) device().kernels().tensor.add_into(device(), gradient, into.tensor);
  else device().kernels().tensor.convert(device(), gradient, into.tensor);
}

Tape::Tape(Device& device, Mode mode) : device_(device), mode_(mode), uses_(std::make_shared<Uses>()) {}

Tape::Tape(const Tape& parent, Mode mode, bool counting, bool replaying)
    : device_(parent.device_),
      mode_(mode),
      uses_(parent.uses_),
      counting_(counting),
      replaying_(replaying),
      scope_(parent.scope_),
      observer_(parent.observer_) {}

// Later nodes go first: freeing a node frees what it saved.
Tape::~Tape() {
  while (!nodes_.empty()) nodes_.pop_back();
}

Value Tape::constant(Tensor tensor) {
  Value value;
  value.tape_ = this;
  value.tensor_ = std::move(tensor);
  return value;
}

Value Tape::input(Tensor tensor) {
  Value value = constant(std::move(tensor));
  if (recording()) value.slot_ = std::make_shared<detail::GradientSlot>();
  return value;
}

Value Tape::parameter(Leaf& leaf) {
  Value value;
  value.tape_ = this;
  value.leaf_ = &leaf;
  return value;
}

bool Tape::would_record(std::initializer_list<Value> inputs) const {
  return recording() &&
         std::any_of(inputs.begin(), inputs.end(), [](const Value& v) { return v.defined() && v.needs_gradient(); });
}

Value Tape::record(std::string_view operation, Tensor output, std::initializer_list<Value> inputs,
                   BackwardFunction backward) {
  std::vector<Tensor> outputs;
  outputs.push_back(std::move(output));
  return record(operation, std::move(outputs), std::span(inputs.begin(), inputs.size()), std::move(backward))[0];
}

std::vector<Value> Tape::record(std::string_view operation, std::vector<Tensor> outputs, std::span<const Value> inputs,
                                BackwardFunction backward) {
  if (observer_) {
    for (const Tensor& output : outputs) observer_(scope_ + std::string(operation), output);
  }
  std::vector<Value> values;
  for (Tensor& output : outputs) values.push_back(constant(std::move(output)));
  if (!recording() && !counting_) return values;
  auto node = std::make_unique<Backward::Node>();
  bool wanted = false;
  for (const Value& input : inputs) {
    Backward::Node::Input entry;
    if (input.defined()) {
      TROUPE_CHECK(&input.tape() == this, "{}: a value of another tape", operation);
      entry = {input.slot_, input.leaf_, {}, DType::f32};
      if (input.slot_) {
        entry.shape = input.shape();
        entry.dtype = input.dtype();
      }
      wanted = wanted || input.needs_gradient();
      node->has_weights = node->has_weights || (input.leaf_ && input.leaf_->trainable());
    }
    node->inputs.push_back(std::move(entry));
  }
  if (!replaying_) note_uses(*node);
  if (!recording() || !wanted) return values;
  node->operation = scope_ + std::string(operation);
  node->backward = std::move(backward);
  for (Value& value : values) {
    value.slot_ = std::make_shared<detail::GradientSlot>();
    node->outputs.push_back(value.slot_);
  }
  nodes_.push_back(std::move(node));
  return values;
}

void Tape::note_uses(const Backward::Node& node) {
  for (const auto& input : node.inputs) {
    if (input.leaf == nullptr || !input.leaf->trainable()) continue;
    ++uses_->left[input.leaf];
    ++uses_->noted;
  }
}

void Tape::run(Backward::Node& node, GradientPart part) {
  Backward back(*this, node, part);
  node.backward(back);
  if (observer_) {
    for (const auto& input : node.inputs) {
      if (input.slot && input.slot->gradient.defined()) observer_(node.operation + " backward", input.slot->gradient);
    }
  }
  if (part == GradientPart::inputs) return;
  for (const auto& input : node.inputs) {
    if (input.leaf == nullptr || !input.leaf->trainable()) continue;
    if (--uses_->left[input.leaf] == 0) input.leaf->gradient_ready();
  }
}

void Tape::backward(std::span<const Value> outputs, std::span<const Tensor> gradients, GradientPart part) {
  TROUPE_CHECK(recording(), "backward on a tape that does not record");
  TROUPE_CHECK(part != GradientPart::weights, "weights alone come from backward_weights()");
  TROUPE_CHECK(outputs.size() == gradients.size(), "{} outputs, {} gradients", outputs.size(), gradients.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const auto& slot = outputs[i].slot_;
    if (!slot || !gradients[i].defined()) continue;
    TROUPE_CHECK(gradients[i].elements() == outputs[i].tensor().elements(), "gradient {} for output {}",
                 gradients[i].shape().to_string(), outputs[i].shape().to_string());
    if (!slot->gradient.defined()) {
      slot->gradient = gradients[i];
    } else {
      Tensor sum = slot->gradient.to(slot->gradient.dtype());
      device_.kernels().tensor.add_into(device_, gradients[i], sum);
      slot->gradient = std::move(sum);
    }
  }
  while (!nodes_.empty()) {
    std::unique_ptr<Backward::Node> node = std::move(nodes_.back());
    nodes_.pop_back();
    bool reached = false;
    for (auto& slot : node->outputs) {
      reached = reached || slot->gradient.defined();
      node->output_gradients.push_back(std::exchange(slot->gradient, Tensor()));
    }
    // Nothing depends on it: its parameters get no contribution, yet they are done with it.
    if (!reached && !node->replays) {
      node->backward = [](Backward&) {};
    }
    run(*node, part);
    if (part == GradientPart::inputs && node->has_weights) deferred_.push_back(std::move(node));
  }
}

void Tape::backward_weights() {
  for (auto& node : deferred_) {
    run(*node, GradientPart::weights);
    node.reset();
  }
  deferred_.clear();
}

Tensor Tape::gradient(const Value& input) const { return input.slot_ ? input.slot_->gradient : Tensor(); }

std::vector<Value> Tape::recompute(std::span<const Value> inputs, Block body) {
  if (!recording()) return body(*this, inputs);
  const int64_t noted_before = uses_->noted;
  std::vector<Tensor> saved;
  std::vector<Tensor> outputs;
  {
    Tape first(*this, Mode::no_gradient, !replaying_, replaying_);
    std::vector<Value> constants;
    for (const Value& input : inputs) {
      saved.push_back(input.tensor());
      constants.push_back(first.constant(input.tensor()));
    }
    for (const Value& output : body(first, constants)) outputs.push_back(output.tensor());
  }
  const bool has_weights = replaying_ || uses_->noted > noted_before;
  const size_t count = nodes_.size();
  std::vector<bool> wanted;
  for (const Value& input : inputs) wanted.push_back(input.needs_gradient());
  const std::string scope = scope_;
  auto replay = std::make_shared<std::unique_ptr<Tape>>();
  std::vector<Value> results =
      record("recompute", std::move(outputs), inputs,
             [this, saved = std::move(saved), wanted, body = std::move(body), replay, scope](Backward& back) {
               if (back.part() == GradientPart::weights) {
                 if (*replay) (*replay)->backward_weights();
                 replay->reset();
                 return;
               }
               replay->reset(new Tape(*this, Mode::record, false, true));
               Tape& tape = **replay;
               tape.scope_ = scope;
               std::vector<Value> arguments;
               for (size_t i = 0; i < saved.size(); ++i) {
                 arguments.push_back(wanted[i] ? tape.input(saved[i]) : tape.constant(saved[i]));
               }
               const std::vector<Value> values = body(tape, arguments);
               std::vector<Tensor> gradients;
               for (size_t i = 0; i < values.size(); ++i)
                 gradients.push_back(back.output_gradient(static_cast<int>(i)));
               tape.backward(values, gradients, back.part());
               for (size_t i = 0; i < saved.size(); ++i) {
                 Tensor gradient = tape.gradient(arguments[i]);
                 if (wanted[i] && gradient.defined()) back.give(static_cast<int>(i), std::move(gradient));
               }
               if (back.part() == GradientPart::both) replay->reset();
             });
  TROUPE_CHECK(!has_weights || nodes_.size() > count,
               "a recomputed block with parameters needs an input that wants a gradient");
  if (nodes_.size() > count) {
    nodes_.back()->has_weights = has_weights;
    nodes_.back()->replays = has_weights;
  }
  return results;
}

Value Tape::recompute(const Value& input, const std::function<Value(Tape&, const Value&)>& body) {
  return recompute(std::span(&input, 1), [body](Tape& tape, std::span<const Value> inputs) {
    return std::vector<Value>{body(tape, inputs[0])};
  })[0];
}

Tape::Scope::Scope(Tape& tape, std::string_view name) : tape_(tape), length_(tape.scope_.size()) {
  tape.scope_ += name;
  tape.scope_ += '.';
}

Tape::Scope::~Scope() { tape_.scope_.resize(length_); }

}  // namespace troupe::kernels
