"""All mutations, in the order of the packages."""

from tests.mutation import analyses, core, geometry, pipeline, studies

MUTATIONS = (
    *core.MUTATIONS,
    *analyses.MUTATIONS,
    *geometry.MUTATIONS,
    *pipeline.MUTATIONS,
    *studies.MUTATIONS,
)
