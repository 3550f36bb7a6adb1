// Memory of one network: weights, activations and scratch lie together in huge pages, so that a
// pass does not spend its time on address translation (7 % of a W4A4 ResNet-18, measured).
#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "base/target.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace qb {

class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    for (std::uint8_t* piece : pieces_) ::operator delete(piece, std::align_val_t(kPiece));
  }

  // Zeros, aligned to cache lines; they live as long as the pool.
  std::uint8_t* take(std::int64_t bytes) {
#if QB_CHECKED  // a piece for each, and no room behind it: the sanitizer sees any access there
    return zeros(bytes);
#else
    bytes = (bytes + 63) / 64 * 64;
    if (bytes > left_) {
      left_ = (bytes + kPiece - 1) / kPiece * kPiece;
      at_ = zeros(left_);
    }
    std::uint8_t* taken = at_;
    at_ += bytes, left_ -= bytes;
    return taken;
#endif
  }

 private:
  static constexpr std::int64_t kPiece = QB_CHECKED ? 16 : 1 << 21;  // a huge page

  std::uint8_t* zeros(std::int64_t bytes) {
    auto* piece =
        static_cast<std::uint8_t*>(::operator new(std::size_t(bytes), std::align_val_t(kPiece)));
    pieces_.push_back(piece);
#if defined(__linux__) && !QB_CHECKED
    madvise(piece, std::size_t(bytes), MADV_HUGEPAGE);  // a wish: nothing depends on it
#endif
    std::memset(piece, 0, std::size_t(bytes));
    return piece;
  }

  std::vector<std::uint8_t*> pieces_;
  std::uint8_t* at_ = nullptr;
  std::int64_t left_ = 0;
};

// An array in a pool.
template <typename T>
class Aligned {
 public:
  void resize(std::int64_t n, Pool& pool) {
    data_ = reinterpret_cast<T*>(pool.take(n * std::int64_t(sizeof(T))));
    size_ = n;
  }
  T* data() const { return data_; }
  std::int64_t size() const { return size_; }
  T& operator[](std::int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  std::int64_t size_ = 0;
};

}  // namespace qb
