"""The dynamic affine feature map transform (Poelsterl et al. 2021; Wolf et al. 2022, NeuroImage, eq. 1 to 3)."""

from chiasm.models.fusion.film import FiLM


class DAFT(FiLM):
    """FiLM whose scale and shift depend on the image too: [alpha - 1, beta] = W2 ReLU(W1 [GAP(F); x_record])."""

    sees_image = True
