from .classical.estimator import SaliencyEstimator as SaliencyEstimator
from .classical.estimator import SaliencyResult as SaliencyResult
from .config import SaliencyConfig as SaliencyConfig
