from .config import RelabelConfig as RelabelConfig
