// Included once per target, so its guard is toggled instead of set.
#if defined(CONSILIUM_AGGREGATION_KERNELS_NARROW_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef CONSILIUM_AGGREGATION_KERNELS_NARROW_INL_H_
#undef CONSILIUM_AGGREGATION_KERNELS_NARROW_INL_H_
#else
#define CONSILIUM_AGGREGATION_KERNELS_NARROW_INL_H_
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace consilium::kernels::HWY_NAMESPACE {

// double to float, rounded to nearest even; too large becomes infinity. On its
// targets without vector instructions Highway would give the largest float.
template <class F, class V>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<F> Narrow(F f, V wide) {
  namespace hn = hwy::HWY_NAMESPACE;
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  const hn::Rebind<double, F> d;
  HWY_ALIGN double from[hn::MaxLanes(d)];
  HWY_ALIGN float to[hn::MaxLanes(d)];
  hn::Store(wide, d, from);
  for (size_t i = 0; i < hn::Lanes(d); ++i) to[i] = static_cast<float>(from[i]);
  return hn::Load(f, to);
#else
  return hn::DemoteTo(f, wide);
#endif
}

}  // namespace consilium::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
