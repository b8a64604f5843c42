// MeshRef<T>: the ranks of a mesh, or a slice of them, as one. What goes to all of them is under way to all at once;
// what comes back is told apart by rank.
//
//   auto losses = co_await ranks.slice(0, 4).ask<&Trainer::step>(plan, 60s);          // vector of Result, by rank
//   auto sum = co_await ranks.reduce<&Trainer::tokens>(60s, std::plus<>());           // first error, or the sum
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "runtime/actor/handoff.h"
#include "runtime/actor/ref.h"

namespace troupe::actor {

// Cheap to copy; never changes.
template <class T>
class MeshRef {
 public:
  MeshRef() : MeshRef(std::vector<Ref<T>>()) {}
  explicit MeshRef(std::vector<Ref<T>> ranks) : ranks_(std::make_shared<const std::vector<Ref<T>>>(std::move(ranks))) {}

  size_t size() const { return ranks_->size(); }
  // The place in this mesh or slice, not in the one that it was cut from.
  const Ref<T>& operator[](size_t rank) const { return ranks_->at(rank); }
  auto begin() const { return ranks_->begin(); }
  auto end() const { return ranks_->end(); }

  // Ranks first, first + stride, … : `count` of them. REQUIRES: they exist.
  MeshRef slice(size_t first, size_t count, size_t stride = 1) const {
    std::vector<Ref<T>> ranks;
    for (size_t i = 0; i < count; ++i) ranks.push_back(ranks_->at(first + i * stride));
    return MeshRef(std::move(ranks));
  }

  // ask<&T::method>(arguments…, deadline) of every rank; each gets a copy of the arguments.
  template <auto M, class... A>
  Task<std::vector<Result<typename Traits<M>::Answer>>> ask(A... arguments_and_deadline) const {
    const auto ranks = ranks_;
    std::vector<Task<Result<typename Traits<M>::Answer>>> asks;
    asks.reserve(ranks->size());
    for (const Ref<T>& rank : *ranks) asks.push_back(ask_one<M>(rank, arguments_and_deadline...));
    co_return co_await all(std::move(asks));
  }

  // Every rank's answer, in order; the first error where one has failed, with its rank.
  template <auto M, class... A>
  Task<Result<std::vector<typename Traits<M>::Answer>>> gather(A... arguments_and_deadline) const {
    auto answers = co_await ask<M>(std::move(arguments_and_deadline)...);
    std::vector<typename Traits<M>::Answer> values;
    values.reserve(answers.size());
    for (size_t rank = 0; rank < answers.size(); ++rank) {
      if (!answers[rank].ok()) co_return std::move(answers[rank]).error().within(fmt::format("rank {}", rank));
      values.push_back(std::move(answers[rank]).value());
    }
    co_return values;
  }

  // combine(combine(answer 0, answer 1), answer 2)…; always in the order of ranks. REQUIRES: size() > 0.
  template <auto M, class Combine, class... A>
  Task<Result<typename Traits<M>::Answer>> reduce(Combine combine, A... arguments_and_deadline) const {
    auto values = TROUPE_CO_TRY(co_await gather<M>(std::move(arguments_and_deadline)...));
    auto sum = std::move(values.at(0));
    for (size_t rank = 1; rank < values.size(); ++rank) sum = combine(std::move(sum), std::move(values[rank]));
    co_return sum;
  }

  // tell<&T::method>(arguments…) to every rank: the first error, with its rank.
  template <auto M, class... A>
  Task<Status> tell(A... arguments) const {
    const auto ranks = ranks_;
    std::vector<Task<Status>> tells;
    tells.reserve(ranks->size());
    for (const Ref<T>& rank : *ranks) tells.push_back(tell_one<M>(rank, arguments...));
    auto told = co_await all(std::move(tells));
    for (size_t rank = 0; rank < told.size(); ++rank) {
      if (!told[rank].ok()) co_return std::move(told[rank]).error().within(fmt::format("rank {}", rank));
    }
    co_return Status();
  }

 private:
  template <auto M, class... A>
  static Task<Result<typename Traits<M>::Answer>> ask_one(Ref<T> rank, A... arguments_and_deadline) {
    co_return co_await rank.template ask<M>(std::move(arguments_and_deadline)...);
  }
  template <auto M, class... A>
  static Task<Status> tell_one(Ref<T> rank, A... arguments) {
    co_return co_await rank.template tell<M>(std::move(arguments)...);
  }

  std::shared_ptr<const std::vector<Ref<T>>> ranks_;
};

}  // namespace troupe::actor
