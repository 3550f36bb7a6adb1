// Regions of code compiled for one instruction set, so that the library needs no -march flag and
// runs anywhere.
//
// Inside a region include nothing of the C++ library: an inline function of the standard library
// that is compiled there may be the copy that the linker keeps for everybody, and would then crash
// an older machine.
#pragma once

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define QB_X86 1
#else
#define QB_X86 0
#endif

#define QB_STRING(x) #x
#if defined(__clang__)
#define QB_TARGET_BEGIN(isa) \
  _Pragma(QB_STRING(clang attribute push(__attribute__((target(isa))), apply_to = function)))
#define QB_TARGET_END _Pragma("clang attribute pop")
#define QB_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define QB_TARGET_BEGIN(isa) _Pragma("GCC push_options") _Pragma(QB_STRING(GCC target(isa)))
#define QB_TARGET_END _Pragma("GCC pop_options")
#define QB_UNROLL _Pragma("GCC unroll 32")
#else
#define QB_TARGET_BEGIN(isa)
#define QB_TARGET_END
#define QB_UNROLL
#endif

#if defined(__GNUC__) || defined(__clang__)
#define QB_INLINE inline __attribute__((always_inline))
#define QB_NOINLINE __attribute__((noinline))
#else
#define QB_INLINE inline
#define QB_NOINLINE
#endif

// Sanitizers see neither inline assembly nor masked stores: checked builds use plain C++ in their
// place.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QB_CHECKED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define QB_CHECKED 1
#endif
#endif
#ifndef QB_CHECKED
#define QB_CHECKED 0
#endif
