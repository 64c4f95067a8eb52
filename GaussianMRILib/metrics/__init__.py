"""Image quality metrics of the field: PSNR, SSIM and LPIPS, each also weighted by a mask; gradient energy."""

from .fidelity import gaussian_weight_mask, gradient_energy, match_intensity, psnr, ssim, ssim_map
from .perceptual import Lpips, lpips

__all__ = ["Lpips", "gaussian_weight_mask", "gradient_energy", "lpips", "match_intensity", "psnr", "ssim", "ssim_map"]
