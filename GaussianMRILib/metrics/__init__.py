"""Image quality metrics of the field: PSNR, SSIM and LPIPS, each also weighted by a mask."""

from .fidelity import gaussian_weight_mask, match_intensity, psnr, ssim, ssim_map
from .perceptual import Lpips, lpips

__all__ = ["Lpips", "gaussian_weight_mask", "lpips", "match_intensity", "psnr", "ssim", "ssim_map"]
