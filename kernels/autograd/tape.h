// Tape: reverse-mode automatic differentiation. An operation computes its output and records one node
// with exactly what its backward needs; backward() walks the nodes in reverse. One tape serves one
// microbatch on one stage, on one thread.
//
// Gradients of activations have the activation's dtype; gradients of parameters go to their leaf's
// accumulator (f32, or f64), in the order of the nodes, so the sum is the same every time.
#pragma once
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/autograd/leaf.h"
#include "kernels/tensor/tensor.h"

namespace troupe::kernels {

class Tape;

// Which gradients a backward pass computes: a pipeline may send the input's on before it computes the
// weights' (zero-bubble schedules).
enum class GradientPart : uint8_t { both, inputs, weights };

namespace detail {
struct GradientSlot {
  Tensor gradient;  // undefined until the first contribution
};
}  // namespace detail

// An activation on a tape, or a parameter. Cheap to copy. Dropping the last copy of an activation frees
// its tensor unless a node has saved it.
class Value {
 public:
  Value() = default;

  bool defined() const { return tape_ != nullptr; }
  // A parameter's tensor is looked up at each call: do not keep it across a step.
  const Tensor& tensor() const { return leaf_ ? leaf_->value() : tensor_; }
  const Shape& shape() const { return tensor().shape(); }
  int64_t dim(int index) const { return tensor().dim(index); }
  DType dtype() const { return tensor().dtype(); }
  Leaf* leaf() const { return leaf_; }
  bool needs_gradient() const { return leaf_ ? leaf_->trainable() : slot_ != nullptr; }
  Tape& tape() const { return *tape_; }

  // The same elements under another shape; gradients pass through.
  Value reshape(Shape shape) const;

 private:
  friend class Tape;
  friend class Backward;
  Tape* tape_ = nullptr;
  Tensor tensor_;
  std::shared_ptr<detail::GradientSlot> slot_;  // null: no gradient wanted
  Leaf* leaf_ = nullptr;
};

// What a node's backward function sees: gradients of its outputs in, gradients of its inputs out.
class Backward {
 public:
  Device& device() const;
  Tape& tape() const { return tape_; }
  GradientPart part() const { return part_; }

  // Gradient of output `index`; undefined when nothing depended on that output.
  const Tensor& output_gradient(int index = 0) const;

  // Whether input `index` wants a gradient in this pass. A function must leave the others alone.
  bool wants(int index) const;

  // Where a kernel writes or adds input `index`'s gradient, of shape `shape` (activations: the input's
  // dtype). An activation's tensor is new, or holds earlier contributions that no one else refers to.
  GradientTarget target(int index);
  // Hands over a finished gradient instead. It may share storage with others: it is never written to.
  void give(int index, Tensor gradient);

 private:
  friend class Tape;
  struct Node;
  Backward(Tape& tape, Node& node, GradientPart part) : tape_(tape), node_(node), part_(part) {}
  Tape& tape_;
  Node& node_;
  GradientPart part_;
};

// May be called twice (inputs, then weights) and then must compute the same both times.
using BackwardFunction = std::function<void(Backward&)>;

class Tape {
 public:
  enum class Mode : uint8_t { record, no_gradient };

  explicit Tape(Device& device, Mode mode = Mode::record);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  Device& device() const { return device_; }
  bool recording() const { return mode_ == Mode::record; }

  Value constant(Tensor tensor);  // no gradient
  Value input(Tensor tensor);     // its gradient can be asked for after backward()
  Value parameter(Leaf& leaf);    // `leaf` outlives the tape

  // Records one node: `output` was computed from `inputs`. Returns the output as a value, which needs a
  // gradient exactly if some input does; otherwise (or in no_gradient mode) nothing is kept.
  Value record(std::string_view operation, Tensor output, std::initializer_list<Value> inputs,
               BackwardFunction backward);
  std::vector<Value> record(std::string_view operation, std::vector<Tensor> outputs, std::span<const Value> inputs,
                            BackwardFunction backward);
  // Whether record() would keep a node for these inputs; if not, an operation need not save anything.
  bool would_record(std::initializer_list<Value> inputs) const;

  // Propagates `gradients` of `outputs` (same order, shapes; an undefined value or gradient is skipped)
  // to every leaf and input. Each node's memory is freed as soon as it has run. With `inputs`, the
  // parameters' share is kept for backward_weights().
  void backward(std::span<const Value> outputs, std::span<const Tensor> gradients,
                GradientPart part = GradientPart::both);
  void backward_weights();

  // Of an input(), after backward(): undefined when nothing depended on it.
  Tensor gradient(const Value& input) const;

  // Runs `body` without keeping its activations; backward runs it again on a tape of its own.
  // `body` must be a pure function of its arguments, the parameters and captured constants.
  using Block = std::function<std::vector<Value>(Tape&, std::span<const Value>)>;
  std::vector<Value> recompute(std::span<const Value> inputs, Block body);
  Value recompute(const Value& input, const std::function<Value(Tape&, const Value&)>& body);

  // Called with the scoped name and the result of every operation, and with every gradient that a node
  // hands on (name + " backward"): how a NaN finds its operation. Slow; empty by default.
  using Observer = std::function<void(const std::string& operation, const Tensor& result)>;
  void observe(Observer observer) { observer_ = std::move(observer); }

  // While alive, prefixes the operations' names: Tape::Scope scope(tape, "blocks.3").
  class Scope {
   public:
    Scope(Tape& tape, std::string_view name);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Tape& tape_;
    size_t length_;
  };

 private:
  friend class Backward;
  struct Uses;  // how many recorded nodes of this tape and its replays refer to each leaf

  Tape(const Tape& parent, Mode mode, bool counting, bool replaying);
  void run(Backward::Node& node, GradientPart part);
  void note_uses(const Backward::Node& node);

  Device& device_;
  Mode mode_;
  std::vector<std::unique_ptr<Backward::Node>> nodes_;
  std::vector<std::unique_ptr<Backward::Node>> deferred_;  // weights still to come
  std::shared_ptr<Uses> uses_;
  bool counting_ = false;   // the first run of a recomputed block: counts uses of leaves, keeps no node
  bool replaying_ = false;  // a later run: its uses were counted the first time
  std::string scope_;
  Observer observer_;
};

}  // namespace troupe::kernels
