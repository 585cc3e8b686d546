//! Kernels, compiled for several instruction sets, and the choice among them when the program runs.
//!
//! Knows what the machine has; does not know what a kernel does. No layouts: a kernel brings its own.

use super::lanes::{LANES, Vector};
#[cfg(target_arch = "x86_64")]
use super::x86::{Avx2, Avx512};

/// Multiplications below which waking another thread costs more than it saves.
pub(super) const WORTH: usize = 1 << 17;

/// Work compiled for more than one instruction set.
pub(super) trait Kernel {
    type Out;
    /// Must be inlined into [`widest`], with all it calls that names `V`.
    fn run<V: Vector>(self) -> Self::Out;
}

/// Runs a kernel with the widest instructions that this machine has.
pub(super) fn widest<K: Kernel>(kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    {
        #[target_feature(enable = "avx512f,avx2,fma,f16c")]
        fn widest<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<Avx512>()
        }
        #[target_feature(enable = "avx2,fma,f16c")]
        fn wide<K: Kernel>(kernel: K) -> K::Out {
            kernel.run::<Avx2>()
        }
        // SAFETY: the features were just detected.
        #[allow(unsafe_code)]
        return unsafe { if is_x86_feature_detected!("avx512f") { widest(kernel) } else { wide(kernel) } };
    }
    kernel.run::<[f32; LANES]>()
}
