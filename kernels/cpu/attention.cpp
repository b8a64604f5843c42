// Attention's entry points on the CPU: f64 goes to the reference.
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

void forward(Device& device, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options,
             Tensor& o, Tensor* lse) {
  AttentionJob job = make_attention_job(q, k, v, options);
  job.o = o.raw();
  job.lse = lse ? lse->raw() : nullptr;
  attention_forward_reference(device, q.dtype(), job);
}

void backward(Device& device, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o, const Tensor& lse,
              const Tensor& d_o, const AttentionOptions& options, Tensor* dq, Tensor* dk, Tensor* dv) {
  AttentionJob job = make_attention_job(q, k, v, options);
  job.o = o.raw();
  job.lse = lse.raw();
  job.d_o = d_o.raw();
  job.dq = dq ? dq->raw() : nullptr;
  job.dk = dk ? dk->raw() : nullptr;
  job.dv = dv ? dv->raw() : nullptr;
  attention_backward_reference(device, q.dtype(), job);
}

}  // namespace

AttentionKernels attention_kernels() { return {.forward = forward, .backward = backward}; }

}  // namespace troupe::kernels::cpu
