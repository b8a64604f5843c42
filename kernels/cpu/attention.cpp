// Attention's entry points on the CPU: f64 goes to the reference, f32 and bf16 to the fast path, cut into
// tasks by sequence, key head and rows. What a task computes depends on nothing but its cut, and by the
// arithmetic of the fast path no bit of a result depends on the cuts.
#include <cstring>

#include "kernels/cpu/attention_job.h"
#include "kernels/cpu/cpu_kernels.h"

namespace troupe::kernels::cpu {

AttentionJob make_attention_job(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  AttentionJob job{};
  job.B = q.dim(0);
  job.T = q.dim(1);
  job.H = q.dim(2);
  job.K = k.dim(2);
  job.G = job.H / job.K;
  job.d = q.dim(3);
  job.capacity = k.dim(1);
  job.scale = options.scale > 0 ? options.scale : 1 / std::sqrt(static_cast<double>(job.d));
  job.softcap = options.softcap;
  job.causal = options.causal;
  job.window = options.window;
  job.query_offset = options.query_offset;
  job.keys = options.keys;
  if (options.query_offsets.defined()) {
    job.query_offsets = options.query_offsets.data<int32_t>();
    for (int64_t b = 0; b < job.B; ++b) {
      TROUPE_CHECK(job.query_offsets[b] >= 0 && job.query_offsets[b] + job.T <= job.capacity,
                   "attention: sequence {} has {} cached and {} new tokens, its KV cache holds {}", b,
                   job.query_offsets[b], job.T, job.capacity);
    }
  }
  if (options.first_visible.defined()) {
    job.first_visible = options.first_visible.data<int32_t>();
    for (int32_t first : options.first_visible.span<int32_t>()) {
      TROUPE_CHECK(first >= 0, "attention: first_visible holds {}", first);
    }
  }
  job.q = q.raw();
  job.k = k.raw();
  job.v = v.raw();
  return job;
}

namespace {

AttentionEngine engine_for(DType dtype, int64_t d) {
  if (dtype == DType::f32) return attention_engine_f32();
  return has_attention_engine_bf16(d) ? attention_engine_bf16() : attention_engine_bf16_in_f32();
}

// Scratch for each thread of the device.
class ThreadScratch {
 public:
  ThreadScratch(Device& device, int64_t words)
      : words_((words + 15) / 16 * 16),
        memory_(Tensor::empty(device, DType::f32, {device.threads().size(), words_}, MemoryKind::buffers)) {}
  float* of(int thread) const { return memory_.data<float>() + thread * words_; }

 private:
  int64_t words_;
  Tensor memory_;
};

// The keys and values that the engine wants arranged its own way, for all sequences and heads.
Tensor pack_keys(Device& device, const AttentionEngine& engine, AttentionJob& job) {
  int64_t longest = 0;
  for (int64_t b = 0; b < job.B; ++b) longest = std::max(longest, job.key_count(b));
  const int64_t blocks = (longest + kAttentionKeyBlock - 1) / kAttentionKeyBlock;
  job.packed_keys = blocks * kAttentionKeyBlock;
  job.packed_words = engine.packed_words(job, job.d_o != nullptr);
  if (job.packed_words == 0) return {};
  Tensor packed = Tensor::empty(device, DType::f32, {job.B * job.K, job.packed_words}, MemoryKind::buffers);
  job.packed = packed.data<float>();
  device.threads().parallel_for(job.B * job.K * blocks, [&](int64_t index) {
    const int64_t b = index / blocks / job.K;
    const int64_t begin = index % blocks * kAttentionKeyBlock;
    const int64_t end = std::min(begin + kAttentionKeyBlock, job.key_count(b));
    if (begin < end) engine.pack(job, b, index / blocks % job.K, begin, end);
  });
  return packed;
}

void forward_fast(Device& device, DType dtype, AttentionJob& job) {
  const AttentionEngine engine = engine_for(dtype, job.d);
  const bool few = job.rows() <= kAttentionDecodeRows;
  const Tensor packed = few ? Tensor() : pack_keys(device, engine, job);
  const ThreadScratch scratch(device, engine.scratch_words(job, false, 0));
  const int64_t tile = few ? job.rows() : engine.tile_rows;
  const int64_t tiles = (job.rows() + tile - 1) / tile;
  device.threads().parallel_for_thread(job.B * job.K * tiles, [&](int64_t index, int thread) {
    const int64_t b = index / tiles / job.K, head = index / tiles % job.K;
    const int64_t row = (tiles - 1 - index % tiles) * tile;  // late rows see the most keys: the longest tasks first
    const auto run = few ? engine.decode : engine.forward;
    run(job, b, head, row, std::min(tile, job.rows() - row), scratch.of(thread));
  });
}

void zero_keys_behind(DType dtype, const AttentionJob& job, int64_t b, int64_t head) {
  const int64_t size = size_of(dtype);
  for (void* gradient : {job.dk, job.dv}) {
    for (int64_t j = job.key_count(b); gradient && j < job.capacity; ++j) {
      std::memset(static_cast<std::byte*>(gradient) + job.key_at(b, head, j) * size, 0,
                  static_cast<size_t>(job.d * size));
    }
  }
}

void backward_fast(Device& device, DType dtype, AttentionJob& job) {
  const AttentionEngine engine = engine_for(dtype, job.d);
  const Tensor packed = pack_keys(device, engine, job);
  const bool dq = job.dq != nullptr, dk_dv = job.dk || job.dv;
  const int64_t heads = job.B * job.K, threads = device.threads().size();
  // One task a head makes scores once (5 products a block). Where heads are few for the threads, keys and
  // queries are cut too, and dk, dv (4 products) and dq (3) come from tasks of their own.
  const bool whole = !dq || !dk_dv || 5 * ((heads + threads - 1) / threads) * threads <= 7 * heads;
  const int64_t cuts = threads == 1 || (whole && dq && dk_dv) ? 1 : (4 * threads + heads - 1) / heads;
  const auto cut = [&](int64_t count, int64_t unit) {
    return std::max<int64_t>(1, ((count + cuts - 1) / cuts + unit - 1) / unit) * unit;
  };
  const int64_t keys = dk_dv ? cut(job.packed_keys, kAttentionKeyBlock) : job.packed_keys;
  const int64_t key_parts = dk_dv ? (job.packed_keys + keys - 1) / keys : 0;
  const int64_t rows = cut(job.rows(), engine.tile_rows);
  const int64_t row_parts = dq && !(whole && dk_dv) ? (job.rows() + rows - 1) / rows : 0;
  const ThreadScratch scratch(device, engine.scratch_words(job, true, dk_dv ? keys : 0));
  const int64_t parts = key_parts + row_parts;
  device.threads().parallel_for_thread(heads * parts, [&](int64_t index, int thread) {
    const int64_t b = index / parts / job.K, head = index / parts % job.K;
    const int64_t part = index % parts;
    const int64_t count = job.key_count(b);
    AttentionBackwardPart work{b, head, 0, job.rows(), 0, count, dq && whole, true};
    if (part < key_parts) {
      work.key_begin = std::min(part * keys, count);
      work.key_end = std::min(work.key_begin + keys, count);
      if (part == 0) zero_keys_behind(dtype, job, b, head);
    } else {
      work.row_begin = (part - key_parts) * rows;
      work.row_end = std::min(work.row_begin + rows, job.rows());
      work.dq = true;
      work.dk_dv = false;
    }
    engine.backward(job, work, scratch.of(thread));
  });
}

void set_statistics(AttentionJob& job, const AttentionStatistics& statistics) {
  job.lse = statistics.lse.raw();
  job.o_low = statistics.o_low.defined() ? statistics.o_low.data<uint8_t>() : nullptr;
}

void forward(Device& device, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
             Tensor& o, AttentionStatistics* statistics) {
  AttentionJob job = make_attention_job(q, k, v, options);
  job.o = o.raw();
  if (statistics) set_statistics(job, *statistics);
  if (q.dtype() == DType::f64) attention_forward_reference(device, q.dtype(), job);
  else forward_fast(device, q.dtype(), job);
}

void backward(Device& device, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
              const AttentionStatistics& statistics, const Tensor& d_o, const AttentionOptions& options, Tensor* dq,
              Tensor* dk, Tensor* dv) {
  AttentionJob job = make_attention_job(q, k, v, options);
  job.o = o.raw();
  set_statistics(job, statistics);
  job.d_o = d_o.raw();
  job.dq = dq ? dq->raw() : nullptr;
  job.dk = dk ? dk->raw() : nullptr;
  job.dv = dv ? dv->raw() : nullptr;
  if (q.dtype() == DType::f64) attention_backward_reference(device, q.dtype(), job);
  else backward_fast(device, q.dtype(), job);
}

}  // namespace

AttentionKernels attention_kernels() {
  return {.forward = forward, .backward = backward, .join = join_attention, .round = round_attention};
}

}  // namespace troupe::kernels::cpu
