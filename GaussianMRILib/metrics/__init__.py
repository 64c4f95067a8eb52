"""Image quality metrics of the field: PSNR, SSIM and LPIPS, each also weighted by a mask."""

from .fidelity import gaussian_weight_mask, psnr, ssim, ssim_map

__all__ = ["gaussian_weight_mask", "psnr", "ssim", "ssim_map"]
