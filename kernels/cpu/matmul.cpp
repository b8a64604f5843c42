// Cuts matrix products into tasks for the device's threads. A task owns a piece of C: some panels of B,
// packed into its thread's scratch memory, times some rows of A. Only speed depends on the cuts.
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/gemm.h"
#include "kernels/ops/kernels.h"

namespace troupe::kernels::cpu {
namespace {

constexpr int64_t kMaxSteps = 768;         // of k in a packed panel: the rest goes in further blocks
constexpr int64_t kTransposedRows = 2048;  // of Aᵀ (TN) held at once
constexpr int64_t kSumRows = 512;          // of f32 sums held for a bf16 C whose K takes several blocks
constexpr int64_t kStripRows = 32;         // the same where K takes one block
constexpr int64_t kTaskFlops = 1 << 20;    // ≈ 10 µs: smaller pieces are not worth a task
constexpr int64_t kTaskBytes = 64 << 10;
constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kFewRows = 16;  // up to here a product only streams B

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

int64_t l2_bytes() {
  const int64_t size = sysconf(_SC_LEVEL2_CACHE_SIZE);
  return size > 0 ? size : 512 << 10;
}

// One product C[M, N] (+)= A · B + bias, as the engine sees it. Strides count elements (panels: words).
struct Product {
  const GemmEngine* engine;
  MatmulForm form;
  DType type, c_type;
  int64_t M, N, K;
  const std::byte* a;
  int64_t lda;
  int64_t a_origin = 0;  // the row of C that A's first row belongs to
  const std::byte* b;    // or, with `packed`, all panels of B
  int64_t ldb;
  bool packed = false;
  int64_t panel_stride = 0;
  std::byte* c;
  int64_t ldc;
  const void* bias = nullptr;  // of the sums' dtype
  bool accumulate = false;

  int64_t size() const { return size_of(type); }
  int64_t sum_size() const { return size_of(accumulator_of(type)); }
  bool sums_in_c() const { return c_type == accumulator_of(type); }
};

// How a product is cut.
struct Cut {
  int64_t depth;   // of k at a time
  int64_t panels;  // of B in a task
  int64_t rows;    // of C in a task
  int64_t panel_words;

  Cut(const Product& p, int threads) {
    const GemmEngine& e = *p.engine;
    const int64_t steps = e.steps(p.K);
    const int64_t blocks = p.packed && p.M <= kFewRows ? 1 : std::max<int64_t>(1, divide_up(steps, kMaxSteps));
    const int64_t block_steps = blocks == 1 ? steps : round_up(divide_up(steps, blocks), 8);
    depth = std::max<int64_t>(1, block_steps * e.step_depth);
    panel_words = std::max<int64_t>(1, block_steps) * e.panel_width;

    const int64_t all = e.panels(p.N);
    const int64_t cached =
        p.packed && p.M <= kFewRows ? all : std::clamp<int64_t>(l2_bytes() / 2 / (panel_words * e.word_bytes), 1, all);
    panels = cached;
    rows = p.M;
    if (threads > 1) {
      const int64_t work = std::max(2 * p.M * p.N * p.K / kTaskFlops, p.N * p.K * p.size() / kTaskBytes);
      const int64_t tasks = std::clamp<int64_t>(work, 1, kTasksPerThread * threads);
      panels = std::clamp(divide_up(all, tasks), std::min<int64_t>(2, cached), cached);
      const int64_t chunks = divide_up(all, panels);
      if (chunks < tasks) rows = std::max<int64_t>(divide_up(p.M, divide_up(tasks, chunks)), 4 * e.tile_rows);
    }
    panels = divide_up(all, divide_up(all, panels));
    if (!p.sums_in_c() && blocks > 1) rows = std::min(rows, kSumRows);
    rows = std::min(p.M, round_up(rows, e.tile_rows));
  }

  int64_t panel_bytes(const Product& p) const {
    return round_up(p.packed ? 0 : panels * panel_words * p.engine->word_bytes, 64);
  }
  int64_t sum_rows(const Product& p) const { return p.K <= depth ? std::min(rows, kStripRows) : rows; }
  int64_t sum_bytes(const Product& p) const {
    return p.sums_in_c() ? 0 : round_up(sum_rows(p) * panels * p.engine->panel_width * p.sum_size(), 64);
  }
  int64_t scratch_bytes(const Product& p) const { return panel_bytes(p) + sum_bytes(p) + 64; }
};

// A thread's scratch memory, and which part of B it holds packed.
struct Scratch {
  std::byte* memory = nullptr;
  int64_t packed_column = -1, packed_k = -1;
};

// C[m…m + rows, j…j + columns] over k in [k_begin, k_end). `first` and `last`: whether the range holds the
// beginning and the end of the whole chain. A's element (0, 0) of the range lies at p.a.
void multiply_piece(const Product& p, const Cut& cut, Scratch& scratch, int64_t m, int64_t rows, int64_t panel,
                    int64_t panels, int64_t k_begin, int64_t k_end, bool first, bool last) {
  const GemmEngine& e = *p.engine;
  const int64_t j = panel * e.panel_width, columns = std::min(p.N - j, panels * e.panel_width);
  std::byte* const c = p.c + (m * p.ldc + j) * size_of(p.c_type);
  const auto* bias = static_cast<const std::byte*>(p.bias);
  if (bias) bias += j * p.sum_size();
  std::byte* const sums = p.sums_in_c() ? c : scratch.memory + cut.panel_bytes(p);
  const int64_t ld_sums = p.sums_in_c() ? p.ldc : cut.panels * e.panel_width;
  const int64_t strip = p.sums_in_c() ? rows : cut.sum_rows(p);

  for (int64_t k = k_begin;;) {
    const int64_t depth = std::min(cut.depth, k_end - k);
    const std::byte* panel_data;
    int64_t stride;
    if (p.packed) {
      panel_data = p.b + (panel * p.panel_stride + k / e.step_depth * e.panel_width) * e.word_bytes;
      stride = p.panel_stride;
    } else {
      panel_data = scratch.memory;
      stride = cut.panel_words;
      if (scratch.packed_column != j || scratch.packed_k != k) {
        const bool n_by_k = p.form == MatmulForm::nt;
        const int64_t origin = n_by_k ? j * p.ldb + k : k * p.ldb + j;
        e.pack(p.b + origin * p.size(), p.ldb, n_by_k, columns, depth, scratch.memory, stride);
        scratch.packed_column = j;
        scratch.packed_k = k;
      }
    }
    const bool begins = first && k == k_begin, ends = last && k + depth == k_end;
    for (int64_t i = 0; i < rows; i += strip) {
      const int64_t height = std::min(strip, rows - i);
      std::byte* const c_strip = c + i * p.ldc * size_of(p.c_type);
      std::byte* const sum_strip = p.sums_in_c() ? c_strip : sums;
      if (begins && p.accumulate && !p.sums_in_c()) {
        e.load_sums(height, columns, p.c_type, c_strip, p.ldc, sum_strip, ld_sums);
      }
      e.multiply(height, columns, depth, p.a + ((m + i - p.a_origin) * p.lda + k - k_begin) * p.size(), p.lda,
                 panel_data, stride, sum_strip, ld_sums, !begins || p.accumulate);
      if (ends && (bias || !p.sums_in_c())) {
        e.store_sums(height, columns, sum_strip, ld_sums, bias, p.c_type, c_strip, p.ldc);
      }
    }
    k += depth;
    if (k >= k_end) break;
  }
}

std::vector<Scratch> make_scratch(Device& device, int64_t bytes, Tensor& holder) {
  const int threads = device.threads().size();
  holder = Tensor::empty(device, DType::u8, {bytes * threads}, MemoryKind::buffers);
  std::vector<Scratch> scratch(static_cast<size_t>(threads));
  for (size_t i = 0; i < scratch.size(); ++i) {
    scratch[i].memory = static_cast<std::byte*>(holder.raw()) + static_cast<int64_t>(i) * bytes;
  }
  return scratch;
}

// Rows [m_begin, m_end) and k in [k_begin, k_end) of the product, on all threads.
void multiply_range(Device& device, const Product& p, const Cut& cut, std::vector<Scratch>& scratch, int64_t m_begin,
                    int64_t m_end, int64_t k_begin, int64_t k_end, bool first, bool last) {
  const int64_t all = p.engine->panels(p.N), row_tasks = divide_up(m_end - m_begin, cut.rows);
  for (Scratch& s : scratch) s.packed_column = s.packed_k = -1;
  device.threads().parallel_for_thread(divide_up(all, cut.panels) * row_tasks, [&](int64_t task, int thread) {
    const int64_t panel = task / row_tasks * cut.panels, m = m_begin + task % row_tasks * cut.rows;
    multiply_piece(p, cut, scratch[static_cast<size_t>(thread)], m, std::min(cut.rows, m_end - m), panel,
                   std::min(cut.panels, all - panel), k_begin, k_end, first, last);
  });
}

// Aᵀ · B: rows of Aᵀ are made, a block of k at a time, and shared by all threads.
void run_transposed(Device& device, const Product& p) {
  const GemmEngine& e = *p.engine;
  const Cut whole(p, device.threads().size());
  if (!p.sums_in_c() && whole.depth < p.K) {  // sums outlive a block: keep them all
    Tensor sums = Tensor::empty(device, accumulator_of(p.type), {p.M, p.N}, MemoryKind::buffers);
    Product in_sums = p;
    in_sums.c = static_cast<std::byte*>(sums.raw());
    in_sums.c_type = accumulator_of(p.type);
    in_sums.ldc = p.N;
    in_sums.bias = nullptr;
    const auto rows = [&](auto body) {
      device.threads().parallel_ranges(p.M, 16, [&](int64_t begin, int64_t end) {
        body(end - begin, in_sums.c + begin * p.N * p.sum_size(), p.c + begin * p.ldc * size_of(p.c_type));
      });
    };
    if (p.accumulate) {
      rows([&](int64_t m, std::byte* s, std::byte* c) { e.load_sums(m, p.N, p.c_type, c, p.ldc, s, p.N); });
    }
    run_transposed(device, in_sums);
    rows([&](int64_t m, std::byte* s, std::byte* c) { e.store_sums(m, p.N, s, p.N, p.bias, p.c_type, c, p.ldc); });
    return;
  }
  const int64_t block_rows = std::min(p.M, kTransposedRows);
  const int64_t ld = round_up(whole.depth, 16) + 16;  // not a power of two: rows spread over the cache's sets
  Tensor holder, transposed = Tensor::empty(device, p.type, {block_rows, ld}, MemoryKind::buffers);
  Product block = p;
  block.lda = ld;
  block.M = block_rows;
  const Cut cut(block, device.threads().size());
  auto scratch = make_scratch(device, cut.scratch_bytes(block), holder);
  for (int64_t m = 0; m < p.M; m += block_rows) {
    const int64_t rows = std::min(block_rows, p.M - m);
    for (int64_t k = 0; k == 0 || k < p.K; k += cut.depth) {
      const int64_t depth = std::min(cut.depth, p.K - k);
      const int64_t grain = std::max<int64_t>(64, kTaskBytes / std::max<int64_t>(1, depth * p.size()));
      device.threads().parallel_ranges(rows, grain, [&](int64_t begin, int64_t end) {
        e.transpose(p.a + (k * p.lda + m + begin) * p.size(), p.lda, depth, end - begin,
                    static_cast<std::byte*>(transposed.raw()) + begin * ld * p.size(), ld);
      });
      block.a = static_cast<std::byte*>(transposed.raw());
      block.a_origin = m;
      multiply_range(device, block, cut, scratch, m, m + rows, k, k + depth, k == 0, k + depth == p.K);
    }
  }
}

void run(Device& device, const Product& p) {
  if (p.M == 0 || p.N == 0) return;
  if (p.form == MatmulForm::tn && p.K > 0) return run_transposed(device, p);
  const Cut cut(p, device.threads().size());
  Tensor holder;
  auto scratch = make_scratch(device, cut.scratch_bytes(p), holder);
  multiply_range(device, p, cut, scratch, 0, p.M, 0, p.K, true, true);
}

// The whole product on the calling thread.
int64_t serial_scratch_bytes(const Product& p, const Cut& cut) {
  const int64_t transposed = p.form == MatmulForm::tn ? p.M * (round_up(p.K, 16) + 16) * p.size() : 0;
  return cut.scratch_bytes(p) + round_up(transposed, 64);
}
void run_serial(Product p, const Cut& cut, Scratch& scratch) {
  if (p.form == MatmulForm::tn) {
    std::byte* transposed = scratch.memory + cut.scratch_bytes(p);
    const int64_t ld = round_up(p.K, 16) + 16;
    p.engine->transpose(p.a, p.lda, p.K, p.M, transposed, ld);
    p.a = transposed;
    p.lda = ld;
  }
  const int64_t all = p.engine->panels(p.N);
  for (int64_t panel = 0; panel < all; panel += cut.panels) {
    for (int64_t m = 0; m < p.M; m += cut.rows) {
      multiply_piece(p, cut, scratch, m, std::min(cut.rows, p.M - m), panel, std::min(cut.panels, all - panel), 0, p.K,
                     true, true);
    }
  }
}

// The product of [rows, columns] matrices; checks that sizes and dtypes fit together.
Product describe(MatmulForm form, DType type, int64_t a_rows, int64_t a_columns, int64_t b_rows, int64_t b_columns,
                 const Tensor& c, int64_t c_rows, const MatmulOptions& options) {
  TROUPE_CHECK(c.dtype() == type || (type == DType::bf16 && c.dtype() == DType::f32), "product of {} into {}",
               name_of(type), name_of(c.dtype()));
  const bool tn = form == MatmulForm::tn, nt = form == MatmulForm::nt;
  Product p{.engine = &gemm_engine(type),
            .form = form,
            .type = type,
            .c_type = c.dtype(),
            .M = tn ? a_columns : a_rows,
            .N = nt ? b_rows : b_columns,
            .K = tn ? a_rows : a_columns,
            .a = nullptr,
            .lda = a_columns,
            .b = nullptr,
            .ldb = b_columns,
            .c = static_cast<std::byte*>(c.raw()),
            .ldc = nt ? b_rows : b_columns,
            .accumulate = options.accumulate};
  TROUPE_CHECK((nt ? b_columns : b_rows) == p.K && c_rows == p.M && c.dim(-1) == p.N,
               "product {} of [{}, {}] and [{}, {}] into [{}, {}]",
               nt   ? "nt"
               : tn ? "tn"
                    : "nn",
               a_rows, a_columns, b_rows, b_columns, c_rows, c.dim(-1));
  return p;
}

// Product of all dimensions but the last `kept`.
int64_t leading(const Tensor& t, int kept) {
  TROUPE_CHECK(t.shape().dims() >= kept, "a matrix of shape {}", t.shape().to_string());
  int64_t product = 1;
  for (int i = 0; i < t.shape().dims() - kept; ++i) product *= t.dim(i);
  return product;
}

// Sets the bias, in the sums' dtype; `holder` keeps a converted copy alive.
void set_bias(Product& p, const MatmulOptions& options, Tensor& holder) {
  if (!options.bias) return;
  TROUPE_CHECK(options.bias->elements() == p.N, "bias of shape {} for {} columns", options.bias->shape().to_string(),
               p.N);
  const DType sums = accumulator_of(p.type);
  holder = options.bias->dtype() == sums ? *options.bias : options.bias->to(sums, MemoryKind::buffers);
  p.bias = holder.raw();
}

void multiply(Device& device, MatmulForm form, const Tensor& a, const Tensor& b, Tensor& c,
              const MatmulOptions& options) {
  TROUPE_CHECK(a.dtype() == b.dtype(), "product of {} and {}", name_of(a.dtype()), name_of(b.dtype()));
  Product p = describe(form, a.dtype(), leading(a, 1), a.dim(-1), leading(b, 1), b.dim(-1), c, leading(c, 1), options);
  p.a = static_cast<const std::byte*>(a.raw());
  p.b = static_cast<const std::byte*>(b.raw());
  Tensor bias;
  set_bias(p, options, bias);
  run(device, p);
}

void batched(Device& device, MatmulForm form, const Tensor& a, const Tensor& b, Tensor& c,
             const MatmulOptions& options) {
  const int64_t groups = leading(a, 2);
  TROUPE_CHECK(a.dtype() == b.dtype() && leading(b, 2) == groups && leading(c, 2) == groups,
               "batched product of {} and {} into {}", a.shape().to_string(), b.shape().to_string(),
               c.shape().to_string());
  const Product shape = describe(form, a.dtype(), a.dim(-2), a.dim(-1), b.dim(-2), b.dim(-1), c, c.dim(-2), options);
  Product first = shape;
  Tensor bias, holder;
  set_bias(first, options, bias);
  if (first.M == 0 || first.N == 0) return;
  const auto group = [&](int64_t g) {
    Product p = first;
    p.a = static_cast<const std::byte*>(a.raw()) + g * a.dim(-2) * a.dim(-1) * p.size();
    p.b = static_cast<const std::byte*>(b.raw()) + g * b.dim(-2) * b.dim(-1) * p.size();
    p.c = static_cast<std::byte*>(c.raw()) + g * p.M * p.N * size_of(p.c_type);
    return p;
  };
  if (groups < kTasksPerThread * device.threads().size() && 2 * first.M * first.N * first.K > 16 * kTaskFlops) {
    for (int64_t g = 0; g < groups; ++g) run(device, group(g));
    return;
  }
  const Cut cut(first, 1);
  auto scratch = make_scratch(device, serial_scratch_bytes(first, cut), holder);
  device.threads().parallel_for_thread(groups, [&](int64_t g, int thread) {
    Scratch& mine = scratch[static_cast<size_t>(thread)];
    mine.packed_column = mine.packed_k = -1;
    run_serial(group(g), cut, mine);
  });
}

void grouped(Device& device, MatmulForm form, const Tensor& a, const Tensor& b, Tensor& c,
             std::span<const int64_t> offsets, const MatmulOptions& options) {
  const bool tn = form == MatmulForm::tn;
  const Tensor& stacked = tn ? c : b;
  const auto groups = static_cast<int64_t>(offsets.size()) - 1;
  TROUPE_CHECK(a.dtype() == b.dtype() && stacked.shape().dims() == 3 && stacked.dim(0) == groups &&
                   offsets.front() == 0 && offsets.back() == a.rows() && (tn ? b : c).rows() == a.rows() &&
                   options.bias == nullptr,
               "product of {} and {} into {} in {} groups of {} rows", a.shape().to_string(), b.shape().to_string(),
               c.shape().to_string(), groups, offsets.back());
  const auto piece = [&](const Tensor& t, int64_t g) {
    if (&t != &stacked) return t.slice(offsets[static_cast<size_t>(g)], offsets[static_cast<size_t>(g) + 1]);
    return t.slice(g, g + 1).reshape({t.dim(1), t.dim(2)});
  };
  std::vector<Product> products;
  int64_t largest = 0;
  for (int64_t g = 0; g < groups; ++g) {
    TROUPE_CHECK(offsets[static_cast<size_t>(g)] <= offsets[static_cast<size_t>(g) + 1], "group {} ends at row {}", g,
                 offsets[static_cast<size_t>(g) + 1]);
    const Tensor x = piece(a, g), y = piece(b, g), to = piece(c, g);
    Product p = describe(form, a.dtype(), x.dim(0), x.dim(1), y.dim(0), y.dim(1), to, to.dim(0), options);
    p.a = static_cast<const std::byte*>(x.raw());
    p.b = static_cast<const std::byte*>(y.raw());
    if (p.M == 0 || p.N == 0) continue;
    largest = std::max(largest, 2 * p.M * p.N * p.K);
    products.push_back(p);
  }
  const auto count = static_cast<int64_t>(products.size());
  // Few large products are divided among the threads; of many small ones each thread takes whole ones.
  if (count < kTasksPerThread * device.threads().size() || largest > 16 * kTaskFlops) {
    for (const Product& p : products) run(device, p);
    return;
  }
  std::vector<Cut> cuts;
  int64_t bytes = 0;
  for (const Product& p : products) {
    cuts.emplace_back(p, 1);
    bytes = std::max(bytes, serial_scratch_bytes(p, cuts.back()));
  }
  Tensor holder;
  auto scratch = make_scratch(device, bytes, holder);
  device.threads().parallel_for_thread(count, [&](int64_t i, int thread) {
    Scratch& mine = scratch[static_cast<size_t>(thread)];
    mine.packed_column = mine.packed_k = -1;
    run_serial(products[static_cast<size_t>(i)], cuts[static_cast<size_t>(i)], mine);
  });
}

PackedMatrix pack(Device& device, const Tensor& weight, MemoryKind kind) {
  const GemmEngine& e = gemm_engine(weight.dtype());
  PackedMatrix result{.panels = {}, .dtype = weight.dtype(), .N = leading(weight, 1), .K = weight.dim(-1)};
  const int64_t panels = e.panels(result.N), stride = e.steps(result.K) * e.panel_width;
  result.panels = Tensor::empty(device, DType::u8, {panels * stride * e.word_bytes}, kind);
  device.threads().parallel_for(panels, [&](int64_t panel) {
    const int64_t row = panel * e.panel_width;
    e.pack(static_cast<const std::byte*>(weight.raw()) + row * result.K * size_of(weight.dtype()), result.K, true,
           std::min(e.panel_width, result.N - row), result.K,
           static_cast<std::byte*>(result.panels.raw()) + panel * stride * e.word_bytes, stride);
  });
  return result;
}

void multiply_packed(Device& device, const Tensor& a, const PackedMatrix& b, Tensor& c, const MatmulOptions& options) {
  TROUPE_CHECK(a.dtype() == b.dtype, "product of {} and packed {}", name_of(a.dtype()), name_of(b.dtype));
  Product p = describe(MatmulForm::nt, a.dtype(), leading(a, 1), a.dim(-1), b.N, b.K, c, leading(c, 1), options);
  p.a = static_cast<const std::byte*>(a.raw());
  p.b = static_cast<const std::byte*>(b.panels.raw());
  p.packed = true;
  p.panel_stride = p.engine->steps(p.K) * p.engine->panel_width;
  Tensor bias;
  set_bias(p, options, bias);
  run(device, p);
}

}  // namespace

MatmulKernels matmul_kernels() {
  return {
      .multiply = multiply, .batched = batched, .grouped = grouped, .pack = pack, .multiply_packed = multiply_packed};
}

}  // namespace troupe::kernels::cpu
