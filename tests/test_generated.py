"""The generated files agree with the source."""

from scripts import schema


def test_the_written_schema_equals_the_migrated_schema(template: str) -> None:
    assert schema.FILE.read_text() == schema.dump(template), "run make schema"
