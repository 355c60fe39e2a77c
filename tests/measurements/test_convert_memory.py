from measurements.convert_memory import LIMIT, measure


def test_a_conversion_holds_about_one_weight_file() -> None:
    whole, largest, _, growth = measure("bin", 100_000_000, 3)
    assert whole > 2.5 * largest
    assert growth < LIMIT * largest
