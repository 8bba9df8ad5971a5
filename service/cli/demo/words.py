"""What people of the demo's year say. The replies come from the offline model, and say so."""

from collections.abc import Mapping
from random import Random
from typing import Final

from domain.events import ReplyMode
from service.model.offline.replies import Json, Language, reply, subject_of

THINGS: Final[Mapping[Language, tuple[str, ...]]] = {
    "en": (
        *("the login page", "the invoice list", "the search", "the cart", "the newsletter"),
        *("the photo gallery", "the price filter", "the booking form", "the dark theme"),
        *("the export to Excel", "the delivery tracking", "the customer reviews"),
    ),
    "fr": ("la page de connexion", "la liste des factures", "la recherche", "le panier"),
    "es": ("la página de acceso", "la lista de facturas", "la búsqueda", "el carrito"),
    "ar": ("صفحة الدخول", "قائمة الفواتير", "البحث", "سلة الشراء"),
}
ASKED: Final[Mapping[Language, Mapping[ReplyMode, tuple[str, ...]]]] = {
    "en": {
        "question": ("How does {} work?", "Where is {} in the code?", "What happens in {}?"),
        "feature": ("Add {}.", "Build {}, please.", "Create {} for our customers."),
        "fix": ("There is an error in {}.", "Fix {}.", "{} is broken since yesterday."),
        "analysis": ("Review {}.", "Analyze {} and say what you find."),
        "general": ("Let us talk about {}.", "I am not sure about {}.", "Thanks! Now {}."),
        "improvement": ("Write a text about {}.", "Describe {} for a new customer."),
    },
    "fr": {
        "question": ("Comment marche {} ?",),
        "feature": ("Ajoute {}.",),
        "fix": ("Il y a une erreur dans {}.",),
        "analysis": ("Analyse {}.",),
        "general": ("Parlons de {}.",),
        "improvement": ("Écris un texte sur {}.",),
    },
    "es": {
        "question": ("¿Cómo funciona {}?",),
        "feature": ("Añade {}.",),
        "fix": ("Hay un error en {}.",),
        "analysis": ("Analiza {}.",),
        "general": ("Hablemos de {}.",),
        "improvement": ("Escribe un texto sobre {}.",),
    },
    "ar": {
        "question": ("كيف تعمل {}؟",),
        "feature": ("أضف {}.",),
        "fix": ("يوجد خطأ في {}.",),
        "analysis": ("راجع {}.",),
        "general": ("لنتحدث عن {}.",),
        "improvement": ("اكتب نصا عن {}.",),
    },
}
NAMES: Final = (
    *("ada", "ben", "chloe", "dara", "emil", "fatima", "georg", "hana", "ines", "jonas", "karim"),
    *("lena", "mona", "nils", "omar", "paula", "quentin", "rosa", "salma", "tariq", "uma", "vera"),
)
SHOPS: Final = (
    *("Tea", "Bicycles", "Books", "Flowers", "Bread", "Music", "Shoes", "Wine", "Toys", "Lamps"),
    *("Coffee", "Garden", "Cheese", "Paper", "Knives", "Wool"),
)
FRAMEWORKS: Final = ("starlette", "django", "flask", "next", None)
PROMPTS: Final = (
    ("Slogans", "Write a slogan for {{product}}."),
    ("Product text", "Describe {{product}} in three sentences."),
    ("Answer a complaint", "Answer a complaint about {{product}} politely."),
    ("Newsletter", "Write a newsletter about {{product}}."),
)
PRODUCT: Final = "green tea"
IMPROVED: Final = "You know our customers. Write about {{product}} in two sentences."
TAGS: Final = ("later", "customer", "urgent", "idea")
CANDIDATES: Final = ("as it is", "shorter", "friendlier", "with a question")


def asked(random: Random, language: Language, mode: ReplyMode) -> str:
    """A message that asks for a reply of this mode."""
    thing = random.choice(THINGS[language])
    return random.choice(ASKED[language][mode]).format(thing)


def answered(language: Language, mode: ReplyMode, text: str) -> Json:
    """The data of a reply to a message."""
    return reply(mode, language, subject_of(text))["response"]
