"""Strict settings for all tests: several CPU devices, no silent promotion, same random draws."""

import hypothesis
import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile("tlx", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("tlx")
