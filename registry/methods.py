"""The full names of the service and of its methods: signed requests say for which of them they are."""

from typing import Final

from registry.v1 import registry_pb2 as pb

SERVICE: Final = pb.DESCRIPTOR.services_by_name["RegistryService"].full_name

SUBMIT_METHOD: Final = f"{SERVICE}/Submit"

IMPORT_METHOD: Final = f"{SERVICE}/Import"
"""The method by which imports come, and nothing else."""
