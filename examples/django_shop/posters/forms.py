"""What a visitor can order."""

from django import forms

from .models import Poster

MOST_AT_ONCE = 6


class OrderForm(forms.ModelForm):
    """A new poster, for the visitor that ``instance`` names."""

    class Meta:
        model = Poster
        fields = ["prompt", "kind"]
        labels = {"prompt": "What should be on it?", "kind": "Still or moving?"}
        widgets = {
            "prompt": forms.Textarea({"rows": 3, "placeholder": "A lighthouse in fog, woodcut, two colours"}),
            "kind": forms.RadioSelect,
        }
        error_messages = {
            "prompt": {
                "required": "Tell us what you would like to see.",
                "max_length": "Please keep it to %(limit_value)d characters; this has %(show_value)d.",
            },
        }

    def clean(self):
        """A courtesy to the others; what may be spent is limited in the settings."""
        if Poster.objects.filter(visitor=self.instance.visitor).in_the_making().count() >= MOST_AT_ONCE:
            raise forms.ValidationError(
                "You have %(most)d posters in the making. Wait for one of them, or cancel one.",
                code="too_many",
                params={"most": MOST_AT_ONCE},
            )
        return super().clean()
