// Kernels that every tensor needs: conversion and filling.
#pragma once
#include "kernels/tensor/tensor.h"

namespace troupe::kernels {

struct TensorKernels {
  // to[i] = from[i], converted: f64, f32 and bf16 into each other (round to nearest even); any dtype to
  // itself. Same element count, same device.
  void (*convert)(Device&, const Tensor& from, Tensor& to);
  void (*fill_zero)(Device&, Tensor&);
  // to[i] += from[i]; any two floating-point dtypes.
  void (*add_into)(Device&, const Tensor& from, Tensor& to);
  // to[j, i, …] = from[i, j, …]: the first two dimensions change places. Same dtype and element count.
  void (*swap_leading)(Device&, const Tensor& from, Tensor& to);
};

}  // namespace troupe::kernels
