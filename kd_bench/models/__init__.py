"""Networks: timm's factory is the one factory; the CIFAR networks of the published tables are registered in it."""
