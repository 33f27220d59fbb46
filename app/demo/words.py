"""The words of the demo language: what tickets are about and how people say it.

Word lists only. Knows nothing of tickets, conversations or files. Changing a list changes the demo
datasets and asks for a newly pretrained demo model: a word that the model never read in its JSON
spelling cannot be tuned into it.
"""

TEAMS: dict[str, tuple[str, ...]] = {
    "billing": (
        "I was charged twice",
        "the invoice is wrong",
        "my refund has not come",
        "the price on my bill is too high",
        "you took money for a cancelled plan",
        "the discount is missing on the bill",
        "my card was charged without a reason",
        "I need a receipt for the tax office",
    ),
    "shipping": (
        "the parcel has not arrived",
        "the courier left it at the wrong door",
        "tracking has not moved for a week",
        "the box came open",
        "delivery is late again",
        "the driver did not ring the bell",
        "the parcel went to another town",
        "nobody knows where my parcel is",
    ),
    "technical": (
        "it crashes when I start it",
        "the screen stays black",
        "I see an error after the update",
        "it does not connect",
        "it restarts by itself",
        "the button does nothing",
        "it makes a loud noise and stops",
        "the light blinks red all day",
    ),
    "account": (
        "I cannot log in",
        "please change my address",
        "the password link does not work",
        "my profile shows another name",
        "I want to close my account",
        "my mail address has changed",
        "someone else uses my login",
        "I get letters for another customer",
    ),
    "returns": (
        "I want to send it back",
        "it is the wrong size",
        "the colour is not what I ordered",
        "please exchange it",
        "the label for the return is missing",
        "it is not like the picture",
        "I ordered two by mistake",
        "I do not want to keep it",
    ),
}

PRODUCTS = (
    "kettle",
    "lamp",
    "chair",
    "radio",
    "printer",
    "camera",
    "blender",
    "heater",
    "phone",
    "toaster",
    "clock",
    "desk",
)

URGENCY: dict[str, tuple[str, ...]] = {
    "high": (
        "I need this today.",
        "This is urgent.",
        "Please answer at once.",
        "I have waited for weeks.",
        "It cannot wait any longer.",
        "I leave tomorrow morning.",
    ),
    "normal": (
        "A reply this week is fine.",
        "Please answer when it is my turn.",
        "The usual time is fine.",
        "Let me know in a day or two.",
        "I can wait a few days, not more.",
        "Handle it like any other letter.",
    ),
    "low": (
        "There is no hurry.",
        "Take your time.",
        "Whenever you can.",
        "It is not urgent.",
        "Any day will do.",
        "I can wait as long as you like.",
    ),
}

URGENCY_IN_PROSE = {
    "high": "It is urgent.",
    "normal": "It goes the usual way.",
    "low": "It can wait.",
}

GREETINGS = ("Hello!", "Hi there!", "Good morning!", "Dear team!", "Hey!", "Good evening!", "")
FAREWELLS = ("Thanks.", "Best wishes.", "Thank you.", "Kind regards.", "Bye for now.", "")

ORDER_LINES = (
    "My order is {order}, the {product}.",
    "It is about the {product} of order {order}.",
    "Order number {order}, one {product}.",
    "The {product} was order {order}.",
    "I mean the {product}, order {order}.",
    "You will find the {product} under {order}.",
)

ASIDES = (
    "My neighbour has the same.",
    "This is my second letter about it.",
    "I have been a customer for years.",
    "I looked in the manual first.",
    "My son tried to help me.",
    "I wrote to the shop before.",
    "It was a present for my mother.",
    "The page with the answers did not help.",
    "I bought it in the spring.",
    "My phone number has not changed.",
)

SYSTEM_MESSAGES = (
    "You sort support tickets.",
    "You work at the help desk of a shop.",
    "Sort the letter of a customer.",
)

URGENCY_CHANGES: dict[str, tuple[str, ...]] = {
    "high": ("It has become urgent.", "Please hurry now.", "Treat it as urgent."),
    "normal": ("Handle it the usual way.", "Treat it like any other.", "The usual time will do."),
    "low": ("It can wait after all.", "There is no hurry any more.", "Leave it for later."),
}

ORDER_CHANGES = (
    "Sorry, the order is {order}.",
    "I mixed it up: it is order {order}.",
    "The right number is {order}.",
)

FIELD_QUESTIONS: dict[str, tuple[str, ...]] = {
    "team": ("Only the team, please.", "Which team is it?", "Who takes care of it?"),
    "product": ("Only the product, please.", "Which product is it?", "What was bought?"),
    "order": ("Only the order, please.", "Which order is it?", "Tell me the order again."),
    "urgency": ("Only the urgency, please.", "How urgent is it?", "Tell me the urgency."),
}

FIELD_IN_PROSE = {
    "team": "The {team} team.",
    "product": "The {product}.",
    "order": "It is order {order}.",
    "urgency": "The urgency is {urgency}.",
}

FORMAT_REQUESTS = {"list": " Answer as a list.", "json": " Answer as JSON."}

COPY_QUESTIONS = (
    "Repeat: {code}",
    "Say {code} again.",
    "The code is {code}. What is the code?",
    "Order {code} is here. Which order is here?",
    "Write {code} as JSON.",
)

CITIES = ("Rome", "Oslo", "Lima", "Cairo")
SIZES = ("large", "small")
OBJECT_KEYS = ("team", "product", "order", "urgency", "name", "size", "city", "state")
