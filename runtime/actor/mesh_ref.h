// MeshRef<T>: the ranks of a mesh, or a slice of them, as one. What goes to all of them is under way to all at once;
// what comes back is told apart by rank. Ranks of another node get it in one frame, whose body is encoded once for all
// nodes, and answer in as few as the times of their answers allow. All that holds for single messages (ref.h) holds for
// each of these: a message to a rank after one to its mesh arrives after it.
//
//   auto losses = co_await ranks.slice(0, 4).ask<&Trainer::step>(plan, 60s);          // vector of Result, by rank
//   auto sum = co_await ranks.reduce<&Trainer::tokens>(60s, std::plus<>());           // first error, or the sum
#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "runtime/actor/bundle.h"
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
    using Answer = typename Traits<M>::Answer;
    static_assert(sizeof...(A) == std::tuple_size_v<typename Traits<M>::Arguments> + 1,
                  "ask<&T::method>(arguments…, deadline)");
    const auto ranks = ranks_;
    const auto given = std::tie(arguments_and_deadline...);
    const auto timeout = std::chrono::duration_cast<Time>(std::get<sizeof...(A) - 1>(given));
    const auto shared = share<M>(given, std::make_index_sequence<sizeof...(A) - 1>());
    std::vector<Task<Result<Answer>>> asks;
    asks.reserve(ranks->size());
    for (const Ref<T>& rank : *ranks) asks.push_back(ask_one<Answer>(rank, message<M>(rank, shared), timeout));
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
    const auto shared = share<M>(std::tie(arguments...), std::index_sequence_for<A...>());
    std::vector<Task<Status>> tells;
    tells.reserve(ranks->size());
    for (const Ref<T>& rank : *ranks) tells.push_back(tell_one(rank, message<M>(rank, shared)));
    auto told = co_await all(std::move(tells));
    for (size_t rank = 0; rank < told.size(); ++rank) {
      if (!told[rank].ok()) co_return std::move(told[rank]).error().within(fmt::format("rank {}", rank));
    }
    co_return Status();
  }

 private:
  template <auto M>
  using Shared = std::shared_ptr<const typename SharedCall<M>::Shared>;

  template <auto M, class... A, size_t... I>
  static Shared<M> share(const std::tuple<A&...>& given, std::index_sequence<I...>) {
    static_assert(std::is_base_of_v<typename Traits<M>::Actor, T>, "not a method of this actor");
    return std::make_shared<const typename SharedCall<M>::Shared>(
        typename Traits<M>::Arguments(std::move(std::get<I>(given))...));
  }
  template <auto M>
  static std::unique_ptr<Message> message(const Ref<T>& rank, const Shared<M>& shared) {
    if (rank.endpoint()->cell() == nullptr) return std::make_unique<SharedCall<M>>(shared);
    return std::make_unique<Call<M>>(shared->arguments);
  }
  template <class Answer>
  static Task<Result<Answer>> ask_one(Ref<T> rank, std::unique_ptr<Message> message, Time timeout) {
    co_return co_await Ask<Answer>(rank.endpoint().get(), std::move(message), timeout);
  }
  static Task<Status> tell_one(Ref<T> rank, std::unique_ptr<Message> message) {
    co_return co_await Tell(rank.endpoint().get(), std::move(message));
  }

  std::shared_ptr<const std::vector<Ref<T>>> ranks_;
};

}  // namespace troupe::actor
