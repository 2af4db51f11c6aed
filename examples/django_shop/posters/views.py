"""The shop's pages. None of them waits for a poster: the page follows it by itself."""

import uuid

from django.contrib import messages
from django.core.paginator import Paginator
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_safe

from tasks_bridge import StoreError

from .forms import OrderForm
from .models import Poster

IDEAS = ["A lighthouse in fog, woodcut", "Two foxes under a paper moon", "Night train through the Alps, 1930s"]
LATEST = 8
PER_PAGE = 12


def counter(request):
    """Take an order, and show the visitor's latest ones."""
    if request.method == "POST":
        visitor = request.session.setdefault("visitor", uuid.uuid4().hex)
        form = OrderForm(request.POST, instance=Poster(visitor=visitor))
        if form.is_valid():
            start(request, form.save(commit=False))
            return redirect(reverse("posters:counter") + "#yours")
    else:
        form = OrderForm(initial=request.GET.dict())  # "Order it again" brings the prompt along
    shown = {"form": form, "posters": posters_of(request)[:LATEST], "ideas": IDEAS}
    return render(request, "posters/counter.html", shown)


def start(request, poster):
    """Save the poster and start its job: both, or neither."""
    try:
        poster.start_job()
    except StoreError:
        # saved all the same; `manage.py bytespike_reconcile`, from cron, starts it
        messages.warning(request, "Thank you, we have your order. Our press is out of reach; it will take a while.")
    else:
        messages.success(request, "Thank you! Your poster is in the making: watch it here, or come back later.")


@require_safe
def gallery(request):
    """The visitor's finished posters."""
    page = Paginator(posters_of(request).finished(), PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "posters/gallery.html", {"page": page})


@require_safe
def poster(request, pk):
    """One poster of the visitor's."""
    return render(request, "posters/poster.html", {"poster": get_object_or_404(posters_of(request), pk=pk)})


def posters_of(request):
    """The posters of whoever asks. An id in the session, rather than the session's own, outlives a login."""
    return Poster.objects.filter(visitor=request.session.get("visitor", ""))
