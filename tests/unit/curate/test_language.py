from tunewright.curate.language import load_identifier


def test_the_real_identifier_tells_three_languages_apart():
    identify = load_identifier()
    texts = {
        "en": "I would like to know when my parcel will arrive, please.",
        "de": "Ich möchte gerne wissen, wann mein Paket ankommt.",
        "fr": "Je voudrais savoir quand mon colis va arriver, merci.",
    }
    assert {code: identify(text) for code, text in texts.items()} == {code: code for code in texts}
